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
from datetime import datetime, timedelta
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.items import EPOCH
from retrieval.candidates import Candidate, Query

WINDOW = 20  # events after a moment among which its choices are sought
STRIDE = 5  # events from one moment of a user to the next
TIME = pa.timestamp("us", tz="UTC")
MICROSECOND = timedelta(microseconds=1)


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
    log = _Log(interactions, target, start=start, cut=cut, by_behavior=by_behavior)
    found = list(log.asked(start, max(1, min_history)))
    if len(found) > limit:
        kept = np.random.default_rng(seed).choice(len(found), size=limit, replace=False)
        found = [found[place] for place in np.sort(kept)]
    return list(log.moments(found))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A moment among one user's events."""

    user: int
    begin: int
    """Its first event: those of the very same time are hidden with it."""
    place: int
    behavior: str | None


@dataclass(frozen=True, slots=True)
class _User:
    """One user's events by time; items and users are numbers, and times microseconds."""

    items: list[int]
    times: list[int]
    is_choice: Mapping[str | None, list[bool]]
    met_at: Mapping[int, int]
    """Where each item was met first."""

    def chosen(self, begin: int, place: int, behavior: str | None) -> set[int]:
        """What was met and chosen from `begin` on, up to `WINDOW` events from `place`."""
        items, is_choice = self.items, self.is_choice[behavior]
        window = range(begin, min(place + WINDOW, len(items)))
        return {items[n] for n in window if is_choice[n] and self.met_at[items[n]] >= begin}


class _Log:
    """The events before the cut of whoever acted from the start on, as numbers in arrays."""

    def __init__(
        self,
        interactions: pa.Table,
        target: Target,
        *,
        start: datetime,
        cut: datetime,
        by_behavior: bool,
    ) -> None:
        times = interactions["timestamp"]
        before = interactions.filter(pc.less(times, pa.scalar(cut, times.type)))
        since = pc.greater_equal(before["timestamp"], pa.scalar(start, times.type))
        active = pc.unique(before.filter(since)["user_id"])
        table = before.filter(pc.is_in(before["user_id"], active)).sort_by(
            [("user_id", "ascending"), ("timestamp", "ascending"), ("position", "ascending")]
        )
        self.user_ids, users_E = _numbered(table["user_id"])
        self.item_ids, self._items_E = _numbered(table["item_id"])
        self._times_E = table["timestamp"].cast(TIME).cast(pa.int64()).to_numpy()
        self._is_choice = _choices(table, target, by_behavior=by_behavior)
        self._bounds = np.searchsorted(users_E, np.arange(len(self.user_ids) + 1)).tolist()

    def asked(self, start: datetime, min_history: int) -> Iterator[_Asked]:
        """Every moment, by user, time and behavior."""
        begins = (start - EPOCH) // MICROSECOND
        for number in range(len(self.user_ids)):
            user = self._user(number)
            count = len(user.times)
            # Counted from the start on, so that whoever has but one event since has a moment.
            earliest = bisect_left(user.times, begins, min(min_history, count), count)
            for place in range(earliest, count, STRIDE):
                begin = bisect_left(user.times, user.times[place], 0, place)
                for behavior in self._is_choice if begin >= min_history else ():
                    if user.chosen(begin, place, behavior):
                        yield _Asked(number, begin, place, behavior)

    def moments(self, asked: Iterable[_Asked]) -> Iterator[Moment]:
        """What was chosen at each, and by its user at last."""
        for number, of_user in groupby(asked, lambda one: one.user):
            user = self._user(number)
            last: dict[str | None, Mapping[str, datetime]] = {}
            for one in of_user:
                if one.behavior not in last:
                    last[one.behavior] = self._last_chosen(user, one.behavior)
                chosen = user.chosen(one.begin, one.place, one.behavior)
                yield Moment(
                    user_id=self.user_ids[number],
                    as_of=_time(user.times[one.place]),
                    chosen=frozenset(self.item_ids[item] for item in chosen),
                    behavior=one.behavior,
                    last_chosen=last[one.behavior],
                )

    def _last_chosen(self, user: _User, behavior: str | None) -> dict[str, datetime]:
        events = zip(user.items, user.times, user.is_choice[behavior], strict=True)
        return {self.item_ids[item]: _time(time) for item, time, is_choice in events if is_choice}

    def _user(self, number: int) -> _User:
        own = slice(self._bounds[number], self._bounds[number + 1])
        items = self._items_E[own].tolist()
        met_at: dict[int, int] = {}
        for place, item in enumerate(items):
            met_at.setdefault(item, place)
        is_choice = {name: one_E[own].tolist() for name, one_E in self._is_choice.items()}
        return _User(items, self._times_E[own].tolist(), is_choice, met_at)


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


def _choices(
    table: pa.Table, target: Target, *, by_behavior: bool
) -> dict[str | None, NDArray[np.bool_]]:
    """Which events are choices of any kind, and then of each behavior, by name."""
    names, behaviors_E = _numbered(table["behavior"])
    wanted = [target.behaviors is None or name in target.behaviors for name in names]
    any_E = np.array(wanted, dtype=np.bool_)[behaviors_E]
    if target.min_weight is not None:
        weights_E = table["weight"].cast(pa.float64()).to_numpy()  # NaN where there is none
        any_E = any_E & (weights_E >= target.min_weight)
    found: dict[str | None, NDArray[np.bool_]] = {None: any_E}
    if by_behavior:
        met = {names[number] for number in np.unique(behaviors_E[any_E])}
        found |= {name: any_E & (behaviors_E == names.index(name)) for name in sorted(met)}
    return found


def _numbered(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct values in the order of their first rows, and each row's number among them."""
    distinct = pc.unique(column)
    numbers: NDArray[np.int32] = pc.index_in(column, value_set=distinct).to_numpy()
    return distinct.to_pylist(), numbers


def _time(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND
