"""Judges after the cut: a generation and what users did come in, reports and comparisons go out."""
