"""Ranks: candidates come in, a reranked answer goes out over gRPC."""

from ranker.ranking import RankedItem, Ranking, Status

__all__ = ["RankedItem", "Ranking", "Status"]
