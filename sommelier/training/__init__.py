"""Learns before the cut: vectors and choices come in, weights, networks and adapters go out."""
