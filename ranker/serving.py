"""What a loaded generation offers to the service: history, retrieval, reranking, facts.

The service speaks only to this contract, so that a test can serve a small world whose right
answers are known, over the same real gRPC server.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from embedders.items import Interaction
from embedders.texts import TextSource
from embedders.vectors import Space
from feature_repo.base import CacheCounts
from ranker.inline import InlineVectors
from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingInfo:
    """Facts of a generation that a caller may ask for."""

    generation_id: str
    model: str
    """The LLM's architecture, e.g. `Qwen2ForCausalLM`."""
    num_items: int
    spaces: tuple[Space, ...]
    as_of: datetime
    behaviors: tuple[str, ...] = ()
    """What a query may ask about; empty where any choice is foreseen alike."""
    calibrator: str = ""
    """The calibrator's id; empty where scores are not calibrated."""
    comparable: tuple[str, ...] = ()
    """Those of `filterable` that hold numbers, to be compared with bounds."""
    blocks: tuple[str, ...] = ()
    """The blocks of vectors that a query may weigh, by name."""
    filterable: tuple[str, ...] = ()
    """The columns that a filter may name."""
    texts: tuple[TextSource, ...] = ()
    """Who wrote what prompts hold of items and users."""


def unaskable(behavior: str, askable: Sequence[str]) -> str:
    """What is wrong with asking about this behavior, and what to do; empty where nothing is."""
    if behavior in askable:
        return ""
    if not askable:
        return "this ranker foresees any choice alike; leave the behavior out"
    return f"{behavior!r} is none of those that can be asked about: {', '.join(askable)}"


class Serving(Protocol):
    """One generation, loaded and checked. Its methods may be called from several threads.

    A query names a stored user (`user_id`, and `history` is None) or brings a history, which is
    empty for a user of whom nothing is known. A ValueError reaches the caller word for word.
    """

    @property
    def info(self) -> ServingInfo: ...

    @property
    def is_degraded(self) -> bool:
        """Whether stored histories may be older than they should be: the store does not answer."""

    @property
    def caches(self) -> Mapping[str, CacheCounts]:
        """What is kept for later requests, by the caches' names."""

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        """The stored history, oldest first; None for a user whom the store does not know.

        Raises:
            Unreachable: the store does not answer, and nothing is held that is new enough.
        """

    def title(self, item_id: str) -> str | None:
        """The item's title; None for an item that this generation does not hold."""

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """At most `limit` candidates, best first."""

    def score(
        self, query: Query, item_ids: Sequence[str], *, vectors: InlineVectors | None = None
    ) -> list[Candidate]:
        """The known ones among `item_ids` as candidates, in the retriever's order.

        None is left out for having been seen: whoever brings the items has decided that. Those
        that the query's filter excludes are.

        Args:
            query: Whose.
            item_ids: Distinct.
            vectors: For some of them, in the place of those that the generation holds; who has
                any is known. Also below.
        """

    def rerank(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Ranking:
        """The final order of these candidates; the first `num_explained` with explanations.

        It is the last of `refine`, bit for bit.
        """

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Iterator[Ranking]:
        """The order of these candidates in steps, so that whoever is short of time can stop.

        First retrieval's order (`num_scored` 0, judged by `retrieval_order`), before the LLM has
        computed anything; then a ranking after each pass of the LLM, of which some are no better
        than the last (the history was read, a part of the explanation is done); at last the
        complete one. Nothing is computed before the next ranking is asked for. Passes come in the
        order (retrieval rank, item id): what one gives depends on the candidates, not on their
        order here, and not on whether it is the last that is asked for.
        """
