"""The reranker's contract: a query and its candidates in, the final order out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query


class Reranker(ABC):
    """Orders candidates. Equal input gives equal output, in whatever order candidates come."""

    @abstractmethod
    def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Ranking:
        """Every candidate exactly once, best first, ties by item id.

        Raises:
            ValueError: a candidate occurs twice.
        """
