"""Searches: a query comes in, candidates come out, best first."""

from retrieval.candidates import Candidate, Query

__all__ = ["Candidate", "Query"]
