"""The reranker's contract: a query and its candidates in, their order out, at once or in steps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query


class Reranker(ABC):
    """Orders candidates. Equal input gives equal output, in whatever order candidates come."""

    def rerank(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Ranking:
        """Every candidate exactly once, best first, ties by item id: the last of `refine`.

        Args:
            query: Whose order is sought.
            candidates: What retrieval found, in any order.
            num_explained: The first so many items say how their scores come about; the scores
                stay the same, bit by bit.

        Raises:
            ValueError: a candidate occurs twice, or the query names a behavior that cannot be
                asked about.
        """
        *_, last = self.refine(query, candidates, num_explained=num_explained)
        return last

    @abstractmethod
    def refine(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Iterator[Ranking]:
        """The same in steps, as `ranker.serving.Serving.refine` has it, for the same arguments."""
