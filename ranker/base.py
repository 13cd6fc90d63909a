"""The reranker's contract: a query and its candidates in, the final order out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query


class Reranker(ABC):
    """Orders candidates. Equal input gives equal output, in whatever order candidates come."""

    @abstractmethod
    def rerank(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Ranking:
        """Every candidate exactly once, best first, ties by item id.

        Args:
            query: Whose order is sought.
            candidates: What retrieval found, in any order.
            num_explained: The first so many items say how their scores come about; the scores
                stay the same, bit by bit.

        Raises:
            ValueError: a candidate occurs twice, or the query names a behavior that cannot be
                asked about.
        """
