"""Summarizes: items and histories come in, short texts written by a model go out."""
