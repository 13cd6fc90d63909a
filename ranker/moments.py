"""Interactions before the cut in, moments out: who is asked when, and what they then chose.

A moment is a user at a point of their history; what they chose of the next events, and had not met
before, is its truth. Moments begin at `start`, the moment up to which the graph was trained:
earlier ones would meet graph vectors that already know what was chosen.

What a user chose only after those events, or once more, is neither: a model that is told that it
was not chosen is told a falsehood. With `by_behavior` a moment asks for one behavior (TMF), and
there is one more that asks for any of them, so that a query that names none is trained, too.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.candidates import Candidate, Query

WINDOW = 20  # events after a moment among which its choices are sought
STRIDE = 5  # events from one moment of a user to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which events are choices."""

    behaviors: frozenset[str] | None = None
    """None means all."""
    min_weight: float | None = None
    """Such as the fewest stars of a rating that counts as liking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A user, a time, and what they then chose for the first time."""

    user_id: str
    as_of: datetime
    chosen: frozenset[str]
    behavior: str | None = None
    """The behavior that is asked about; None for any choice."""
    last_chosen: Mapping[str, datetime] = field(default_factory=dict, compare=False, repr=False)
    """When the user chose each item the last time before the cut, in this way; one mapping for all
    of a user's moments."""

    def masked(self, item_ids: Iterable[str]) -> frozenset[str]:
        """Those that the user chose after this moment, and that are not among its choices."""
        return frozenset(
            one
            for one in item_ids
            if one not in self.chosen
            and one in self.last_chosen
            and self.last_chosen[one] >= self.as_of
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query with its candidates, some of which were chosen."""

    query: Query
    candidates: tuple[Candidate, ...]
    chosen: frozenset[str]
    weights: Mapping[str, float]
    """The retriever's, so that a score can be taken apart."""
    masked: frozenset[str] = frozenset()
    """Candidates that are neither positive nor negative: chosen later, or too like a chosen one."""

    @property
    def behavior(self) -> str | None:
        """The behavior that is asked about; None for any choice."""
        return self.query.behavior


def moments(
    interactions: pa.Table,
    *,
    target: Target,
    start: datetime,
    cut: datetime,
    limit: int,
    seed: int,
    min_history: int = 5,
    by_behavior: bool = False,
) -> list[Moment]:
    """Moments in [start, cut) with at least one new choice before the cut, by user and time.

    Args:
        interactions: As `embedders.catalog` reads them, with timestamps.
        target: Which events are choices.
        start: No moment lies before it.
        cut: No event at or after it is looked at.
        limit: More moments than this are sampled evenly, seeded.
        min_history: Events that a user must have had before a moment; at least one.
        by_behavior: Ask for each of the target's behaviors apart, by name, after asking for any.
    """
    log = _Log.of(interactions, target, start=start, cut=cut, by_behavior=by_behavior)
    found = list(log.asked(start, max(1, min_history)))
    if len(found) > limit:
        kept = np.random.default_rng(seed).choice(len(found), size=limit, replace=False)
        found = [found[place] for place in np.sort(kept)]
    return log.moments(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A moment among the log's events: where its user's begin and end, and where it begins."""

    first: int
    end: int
    begin: int
    """Events of the very same moment are hidden with it."""
    place: int
    behavior: str | None


@dataclass(frozen=True, slots=True)
class _Log:
    """The events of whoever acted from the start on, by user and time; which are choices, how."""

    users: list[str]
    items: list[str]
    times: list[datetime]
    is_choice: Mapping[str | None, list[bool]]

    @classmethod
    def of(
        cls,
        interactions: pa.Table,
        target: Target,
        *,
        start: datetime,
        cut: datetime,
        by_behavior: bool,
    ) -> "_Log":
        times = interactions["timestamp"]
        before = interactions.filter(pc.less(times, pa.scalar(cut, times.type)))
        since = pc.greater_equal(before["timestamp"], pa.scalar(start, times.type))
        active = pc.unique(before.filter(since)["user_id"])
        table = before.filter(pc.is_in(before["user_id"], active)).sort_by(
            [("user_id", "ascending"), ("timestamp", "ascending"), ("position", "ascending")]
        )
        return cls(
            table["user_id"].to_pylist(),
            table["item_id"].to_pylist(),
            table["timestamp"].to_pylist(),
            _choices(table, target, by_behavior=by_behavior),
        )

    def asked(self, start: datetime, min_history: int) -> Iterator[_Asked]:
        """Every moment, by user, time and behavior."""
        for first, end in self._spans():
            met_at = self._met_at(first, end)
            # Counted from the start on, so that whoever has but one event since has a moment.
            earliest = bisect_left(self.times, start, min(first + min_history, end), end)
            for place in range(earliest, end, STRIDE):
                begin = bisect_left(self.times, self.times[place], first, place)
                if begin - first < min_history:
                    continue
                for behavior in self.is_choice:
                    one = _Asked(first, end, begin, place, behavior)
                    if any(True for _ in self._chosen(one, met_at)):
                        yield one

    def moments(self, asked: Iterable[_Asked]) -> list[Moment]:
        """What was chosen at each, and by its user at last."""
        made: list[Moment] = []
        first, met_at = -1, dict[str, int]()
        last: dict[str | None, Mapping[str, datetime]] = {}
        for one in asked:
            if one.first != first:
                first, met_at, last = one.first, self._met_at(one.first, one.end), {}
            if one.behavior not in last:
                is_choice = self.is_choice[one.behavior]
                last[one.behavior] = {
                    self.items[n]: self.times[n] for n in range(first, one.end) if is_choice[n]
                }
            made.append(
                Moment(
                    user_id=self.users[one.place],
                    as_of=self.times[one.place],
                    chosen=frozenset(self._chosen(one, met_at)),
                    behavior=one.behavior,
                    last_chosen=last[one.behavior],
                )
            )
        return made

    def _spans(self) -> Iterator[tuple[int, int]]:
        users = np.array(self.users, dtype=object)
        edges = (np.flatnonzero(users[1:] != users[:-1]) + 1).tolist()
        return pairwise([0, *edges, len(users)])

    def _met_at(self, first: int, end: int) -> dict[str, int]:
        met_at: dict[str, int] = {}
        for place in range(first, end):
            met_at.setdefault(self.items[place], place)
        return met_at

    def _chosen(self, one: _Asked, met_at: Mapping[str, int]) -> Iterator[str]:
        is_choice = self.is_choice[one.behavior]
        for n in range(one.begin, min(one.place + WINDOW, one.end)):
            if is_choice[n] and met_at[self.items[n]] >= one.begin:
                yield self.items[n]


class Births:
    """When items came to be, in order, so that whatever came later is found at once."""

    def __init__(self, created_at: Mapping[str, datetime]) -> None:
        born = sorted((moment, item_id) for item_id, moment in created_at.items())
        self._times = [moment for moment, _ in born]
        self._items = [item_id for _, item_id in born]

    def after(self, as_of: datetime) -> frozenset[str]:
        """The items that came to be after a moment; nobody could have chosen them then."""
        return frozenset(self._items[bisect_right(self._times, as_of) :])

    def num_after(self, as_of: datetime) -> int:
        """How many these are."""
        return len(self._times) - bisect_right(self._times, as_of)


def not_yet(created_at: Mapping[str, datetime], as_of: datetime) -> frozenset[str]:
    """The items that came to be after one moment; `Births` tells of many."""
    return frozenset(item_id for item_id, moment in created_at.items() if moment > as_of)


def _choices(table: pa.Table, target: Target, *, by_behavior: bool) -> dict[str | None, list[bool]]:
    """Which events are choices of any kind, and then of each behavior, by name."""
    behaviors, weights = table["behavior"].to_pylist(), table["weight"].to_pylist()
    any_kind = [
        (target.behaviors is None or behavior in target.behaviors)
        and (target.min_weight is None or (weight is not None and weight >= target.min_weight))
        for behavior, weight in zip(behaviors, weights, strict=True)
    ]
    found: dict[str | None, list[bool]] = {None: any_kind}
    if by_behavior:
        names = {one for one, is_choice in zip(behaviors, any_kind, strict=True) if is_choice}
        for name in sorted(names):
            found[name] = [
                is_choice and behavior == name
                for behavior, is_choice in zip(behaviors, any_kind, strict=True)
            ]
    return found
