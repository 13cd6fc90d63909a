"""Reads command lines: words come in, one stage runs, a readable summary goes out."""
