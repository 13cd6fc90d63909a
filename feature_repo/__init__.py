"""Keeps: vectors and histories come in, Feast serves them point-in-time and online."""
