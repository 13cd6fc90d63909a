"""Requests over the wire in, ranked answers out: everything between gRPC and one generation."""
