"""The same runs over parts of the truth: kinds of items, and kinds of users.

An average hides for whom a system works. Parts by items keep only the chosen items of that kind
as relevant; the rankings stay whole, so the other kinds' items stand in the way as they do for a
real user. Parts by users keep the users of that kind with everything they chose.

`parts` cuts the judgements, `slices` measures every part. What is known of items and users comes
as facts:

    items = ItemFacts.of(
        popularity=history.popularity,                    # evaluation.history, before the cut
        created_at={item.item_id: item.created_at ...},   # None: the catalog does not say
        cut=cut,
        item_ids_by_block={"graph": graph.item_ids, "text": text.item_ids},
    )
    users = UserFacts(history_lengths=..., newcomers=..., selectivity=...)

A fact that is not given makes no parts of its kind.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation.hits import hits
from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.significance import Interval, bootstrap

HISTORY_STARTS = (0, 5, 10, 20, 50)  # in distinct items met before being asked
AGE_STARTS = (0, 7, 30, 90, 365)  # in days before the cut
SELECTIVITY_ENDS = (0.001, 0.01, 0.1, 1.0)  # shares of the catalog that a filter leaves
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What was known of the items at the cut, by item id."""

    deciles: Mapping[str, int]
    """Items with an event before the cut: 1 for the tenth that most users had met, to 10. An item
    that is not in here is cold."""
    ages: Mapping[str, float] | None = None
    """Days from creation to the cut, negative where it came later; an item that is not in here is
    of unknown age. None: nothing is known of any."""
    presence: Mapping[str, str] | None = None
    """The blocks that hold a vector of it, by name, such as `graph+text`; an item that is not in
    here is in none. None: nothing is known of any."""

    @classmethod
    def of(
        cls,
        *,
        popularity: Sequence[str],
        created_at: Mapping[str, datetime | None] | None = None,
        cut: datetime | None = None,
        item_ids_by_block: Mapping[str, Collection[str]] | None = None,
    ) -> "ItemFacts":
        """Facts from what an evaluation has at hand.

        Args:
            popularity: The items with any event before the cut, by falling number of distinct
                users, ties by item id (`evaluation.history.History.popularity`). Deciles are
                tenths of this order, so equally popular items at a border fall by id.
            created_at: Item -> creation; None where the catalog does not say. Needs `cut`.
            cut: The moment up to which everything may be known, with a time zone.
            item_ids_by_block: Name of a modality or another block -> the items that it holds.

        Raises:
            ValueError: times of creation without a cut.
        """
        if created_at is not None and cut is None:
            raise ValueError("the age of items needs the cut at which they have it")
        ages = {
            item_id: (cut - created).total_seconds() / DAY_S
            for item_id, created in (created_at or {}).items()
            if cut is not None and created is not None
        }
        blocks: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(item_ids_by_block or {}):
            for item_id in (item_ids_by_block or {})[name]:
                blocks[item_id].append(str(name))
        return cls(
            deciles={
                item_id: 10 * place // len(popularity) + 1
                for place, item_id in enumerate(popularity)
            },
            ages=None if created_at is None else ages,
            presence=None
            if item_ids_by_block is None
            else {item_id: "+".join(names) for item_id, names in blocks.items()},
        )

    def kind(self, item_id: str) -> str:
        """`cold` for an item without any event before the cut, else `warm`."""
        return "warm" if item_id in self.deciles else "cold"

    def age(self, item_id: str) -> str:
        """`unknown`, `after the cut` (or at it), or the days before it, such as `7-29`."""
        days = (self.ages or {}).get(item_id)
        if days is None:
            return UNKNOWN_AGE
        return AFTER_CUT if days <= 0 else _span(AGE_STARTS, int(days))

    def blocks(self, item_id: str) -> str:
        """`graph+text`, or `none`."""
        return (self.presence or {}).get(item_id, NO_BLOCK)

    def decile(self, item_id: str) -> str | None:
        """`1` for the most popular tenth, to `10`; None for a cold item."""
        return str(self.deciles[item_id]) if item_id in self.deciles else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFacts:
    """What was known of the users when they were asked, by user id."""

    history_lengths: Mapping[str, int] | None = None
    """Distinct items met before being asked; a user who is not in here had met none. None: not
    known."""
    newcomers: AbstractSet[str] | None = None
    """The users without any event before the cut (cold start): whoever was warmed up. None: not
    known."""
    selectivity: Mapping[str, float] = field(default_factory=dict)
    """The share of the catalog that the user's filter left, from 0 to 1; a user who is not in
    here had none. Empty: nobody had.

    Raises:
        ValueError: a share outside [0, 1].
    """

    def __post_init__(self) -> None:
        bad = next((share for share in self.selectivity.values() if not 0 <= share <= 1), None)
        if bad is not None:
            raise ValueError(f"the share that a filter leaves lies in [0, 1], got {bad}")

    def history(self, user_id: str) -> str:
        """The number of items met, such as `5-9`."""
        return _span(HISTORY_STARTS, (self.history_lengths or {}).get(user_id, 0))

    def start(self, user_id: str) -> str:
        """`cold` for a newcomer, else `warm`."""
        return "cold" if user_id in (self.newcomers or ()) else "warm"

    def width(self, user_id: str) -> str:
        """What the user's filter leaves, such as `<=1%`, or `none` without a filter."""
        share = self.selectivity.get(user_id)
        return NO_FILTER if share is None else _filter_name(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Judgements of one kind."""

    group: str
    """`items`, `age`, `presence`, `popularity`, `history`, `users`, `filter` or `behavior`."""
    name: str
    """Within its group, such as `cold` or `5-9`."""
    judgements: tuple[Judgement, ...]
    """In the order given; in groups of items narrowed to the items of that kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One part's result. `k` is the headline's k; intervals are over the slice's users."""

    group: str
    """As in `Part`."""
    name: str
    num_users: int
    num_items: int
    """Chosen items that are judged in it, summed over its users."""
    candidate_recall: float
    """Recall of the whole candidate list: what retrieval found."""
    retrieval_order: Mapping[str, float]
    """`ndcg@k` and `recall@k`."""
    rerank: Mapping[str, float]
    delta: Interval
    """Of NDCG@k, reranked minus retrieval order."""


def _span(starts: Sequence[int], number: int) -> str:
    """The bucket that holds the number: `5-9`, or `50+` for the last."""
    place = int(np.searchsorted(starts, number, side="right")) - 1
    last = place == len(starts) - 1
    return f"{starts[place]}+" if last else f"{starts[place]}-{starts[place + 1] - 1}"


def _filter_name(share: float) -> str:
    end = next(end for end in SELECTIVITY_ENDS if share <= end)
    return f"<={100 * end:g}%"


UNKNOWN_AGE, AFTER_CUT, NO_BLOCK, NO_FILTER = "unknown", "after the cut", "none", "none"
AGES = (AFTER_CUT, *(_span(AGE_STARTS, start) for start in AGE_STARTS), UNKNOWN_AGE)
HISTORIES = tuple(_span(HISTORY_STARTS, start) for start in HISTORY_STARTS)
DECILES = tuple(str(number) for number in range(1, 11))
FILTERS = (NO_FILTER, *map(_filter_name, SELECTIVITY_ENDS[::-1]))


def parts(
    judgements: Sequence[Judgement], items: ItemFacts, users: UserFacts | None = None
) -> tuple[Part, ...]:
    """Every part that holds at least one user.

    Returns:
        By group (`items`, `age`, `presence`, `popularity`, `history`, `users`, `filter`), within
        a group from cold to warm, young to old, short to long, popular to rare, wide to narrow,
        and patterns of presence by name. The parts of one group do not overlap and together hold
        every judged (user, item), but for `popularity`, which leaves cold items out.
    """
    users = users or UserFacts()
    found = [*_by_item(judgements, "items", items.kind, ("cold", "warm"))]
    if items.ages is not None:
        found += _by_item(judgements, "age", items.age, AGES)
    if items.presence is not None:
        found += _by_item(judgements, "presence", items.blocks, None)
    found += _by_item(judgements, "popularity", items.decile, DECILES)
    if users.history_lengths is not None:
        found += _by_user(judgements, "history", users.history, HISTORIES)
    if users.newcomers is not None:
        found += _by_user(judgements, "users", users.start, ("cold", "warm"))
    if users.selectivity:
        found += _by_user(judgements, "filter", users.width, FILTERS)
    return tuple(found)


def slices(
    retrieved: Run,
    reranked: Run,
    judgements: Sequence[Judgement],
    *,
    items: ItemFacts,
    users: UserFacts | None = None,
    k: int = 10,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Slice, ...]:
    """Both runs measured on every part of `parts`, in its order."""
    bootstrapped = partial(bootstrap, samples=samples, seed=seed, level=level)
    return tuple(
        measured(part, retrieved, reranked, k=k, bootstrapped=bootstrapped)
        for part in parts(judgements, items, users)
    )


def label(group: str, name: str) -> str:
    """A part in words: `items`, `cold` -> `cold items`; `history`, `5-9` -> `5-9 met before`."""
    match group:
        case "items":
            return f"{name} items"
        case "age":
            return {
                UNKNOWN_AGE: "items of unknown age",
                AFTER_CUT: "items created after the cut",
            }.get(name, f"items {name} days old")
        case "presence":
            return "items without vectors" if name == NO_BLOCK else f"items with {name}"
        case "popularity":
            return f"popularity decile {name}"
        case "history":
            return f"{name} met before"
        case "users":
            return f"{name}-start users"
        case "behavior":
            return f"asked about {name}"
        case "filter":
            return "no filter" if name == NO_FILTER else f"filter leaves {name}"
    return f"{group}: {name}"


def _by_item(
    judgements: Sequence[Judgement],
    group: str,
    name_of: Callable[[str], str | None],
    order: Sequence[str] | None,
) -> list[Part]:
    """Judgements narrowed to the items of each name; an item without a name is in no part."""
    found: defaultdict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        chosen: defaultdict[str, list[str]] = defaultdict(list)
        for item_id in one.item_ids:
            name = name_of(item_id)
            if name is not None:
                chosen[name].append(item_id)
        for name, item_ids in chosen.items():
            found[name].append(
                Judgement(user_id=one.user_id, as_of=one.as_of, item_ids=frozenset(item_ids))
            )
    return _ordered(group, found, order)


def _by_user(
    judgements: Sequence[Judgement],
    group: str,
    name_of: Callable[[str], str],
    order: Sequence[str],
) -> list[Part]:
    found: defaultdict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        found[name_of(one.user_id)].append(one)
    return _ordered(group, found, order)


def _ordered(
    group: str, found: Mapping[str, Sequence[Judgement]], order: Sequence[str] | None
) -> list[Part]:
    return [
        Part(group=group, name=name, judgements=tuple(found[name]))
        for name in (sorted(found) if order is None else order)
        if name in found
    ]


def measured(
    part: Part,
    retrieved: Run,
    reranked: Run,
    *,
    k: int,
    bootstrapped: Callable[[NDArray[np.float64]], Interval],
) -> Slice:
    """Both runs on one part."""
    before, after = retrieved.aligned(part.judgements), reranked.aligned(part.judgements)
    depth = max(k, *map(len, before))
    wanted = {"ndcg": (k,), "recall": (k, depth)}
    found = hits(before, part.judgements, depth=depth).values(wanted)
    final = hits(after, part.judgements, depth=k).values({"ndcg": (k,), "recall": (k,)})
    return Slice(
        group=part.group,
        name=part.name,
        num_users=len(part.judgements),
        num_items=sum(len(one.item_ids) for one in part.judgements),
        candidate_recall=float(found[f"recall@{depth}"].mean()),
        retrieval_order={name: float(found[name].mean()) for name in final},
        rerank={name: float(values_U.mean()) for name, values_U in final.items()},
        delta=bootstrapped(final[f"ndcg@{k}"] - found[f"ndcg@{k}"]),
    )
