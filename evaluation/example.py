"""One user's ranking in, the lines that show a reader what reranking did to it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.judgements import Judgement
from ranker.ranking import Ranking, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """One event of the user's history."""

    title: str
    behavior: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleItem:
    """One candidate with both its places."""

    item_id: str
    title: str
    retrieval_rank: int
    """From 1."""
    retrieval_score: float
    rank: int
    """From 1, after reranking."""
    score: float
    is_chosen: bool = False
    """The user chose it after the cut."""

    @property
    def move(self) -> int:
        """By how many places it rose; negative where it fell."""
        return self.retrieval_rank - self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One user, shown in full. Titles are shown as they are: whoever renders them escapes them."""

    user_id: str
    why: str
    """How the user was picked, in a few words; a reader should know whether it is typical."""
    history: tuple[HistoryLine, ...]
    """Oldest first."""
    items: tuple[ExampleItem, ...]
    """By rank after reranking."""

    def shown(self, limit: int) -> tuple[ExampleItem, ...]:
        """The first `limit` after reranking, then every chosen item that stands below them."""
        return _head(self.items, limit)

    def retrieved_shown(self, limit: int) -> tuple[ExampleItem, ...]:
        """The same in retrieval's order."""
        return _head(self.retrieved, limit)

    @property
    def retrieved(self) -> tuple[ExampleItem, ...]:
        """The same items in retrieval's order."""
        return tuple(sorted(self.items, key=lambda item: item.retrieval_rank))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedItem:
    """One item with what its score is made of."""

    item_id: str
    title: str
    rank: int
    score: float
    base: float
    """The score that it would have without any vector."""
    contributions: Mapping[str, float]
    """What each block adds to it, by name."""
    is_chosen: bool = False
    """The user chose it after the cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One user's first items, explained. Titles are as in `Example`."""

    user_id: str
    items: tuple[ExplainedItem, ...]
    """By rank."""


def explained(ranking: Ranking, judgement: Judgement, *, titles: Mapping[str, str]) -> Explained:
    """The items of one judged user's ranking that say how their scores come about."""
    return Explained(
        user_id=judgement.user_id,
        items=tuple(
            ExplainedItem(
                item_id=item.item_id,
                title=titles.get(item.item_id) or item.item_id,
                rank=item.rank,
                score=item.score,
                base=item.explanation.base,
                contributions=dict(item.explanation.contributions),
                is_chosen=item.item_id in judgement.item_ids,
            )
            for item in ranking.items
            if item.explanation is not None
        ),
    )


def example(
    ranking: Ranking,
    judgement: Judgement,
    *,
    titles: Mapping[str, str],
    history: Sequence[HistoryLine],
    why: str,
) -> Example:
    """The example of one judged user from its ranking; an item without a title shows its id.

    Items that could not be ranked are left out.
    """
    return Example(
        user_id=judgement.user_id,
        why=why,
        history=tuple(history),
        items=tuple(
            ExampleItem(
                item_id=item.item_id,
                title=titles.get(item.item_id) or item.item_id,
                retrieval_rank=item.retrieval_rank,
                retrieval_score=item.retrieval_score,
                rank=item.rank,
                score=item.score,
                is_chosen=item.item_id in judgement.item_ids,
            )
            for item in ranking.items
            if item.status != Status.UNKNOWN_ITEM
        ),
    )


def _head(items: tuple[ExampleItem, ...], limit: int) -> tuple[ExampleItem, ...]:
    return items[:limit] + tuple(item for item in items[limit:] if item.is_chosen)
