"""Interactions before the cut in, training examples out: who was asked when, and what they chose.

A moment is a user at a point of their history; what they chose of the next events, and had not met
before, is its truth. The history is read as of the moment, from the feature store, and candidates
are retrieved with it, so that training sees what serving will see. Moments begin at `start`, the
moment up to which the graph was trained: earlier ones would meet graph vectors that already know
what was chosen.

A moment counts only if retrieval found some of what was chosen: a positive from elsewhere would
teach that whatever retrieval brings is wrong.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedders.items import Interaction
from ranker.config import TrainingConfig
from retrieval.candidates import Candidate, Query
from retrieval.retriever import Retriever

WINDOW = 20  # events after a moment among which its choices are sought
STRIDE = 5  # events from one moment of a user to the next
BLOCK = 512  # moments whose candidates are retrieved in one call

Histories = Callable[[Sequence[tuple[str, datetime]]], list[tuple[Interaction, ...]]]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query with its candidates, some of which were chosen."""

    query: Query
    candidates: tuple[Candidate, ...]
    chosen: frozenset[str]
    weights: Mapping[str, float]
    """The retriever's, so that a score can be taken apart."""


def moments(
    interactions: pa.Table,
    *,
    target: Target,
    start: datetime,
    cut: datetime,
    limit: int,
    seed: int,
    min_history: int = 5,
) -> list[Moment]:
    """Moments in [start, cut) with at least one new choice before the cut, by user and time.

    Args:
        interactions: As `embedders.catalog` reads them, with timestamps.
        target: Which events are choices.
        start: No moment lies before it.
        cut: No event at or after it is looked at.
        limit: More moments than this are sampled evenly, seeded.
        min_history: Events that a user must have had before a moment; at least one.
    """
    table = interactions.filter(
        pc.less(interactions["timestamp"], pa.scalar(cut, interactions["timestamp"].type))
    ).sort_by([("user_id", "ascending"), ("timestamp", "ascending"), ("position", "ascending")])
    users = table["user_id"].to_numpy(zero_copy_only=False)
    is_edge = users[1:] != users[:-1]
    bounds = [0, *(np.flatnonzero(is_edge) + 1).tolist(), len(users)]
    items = table["item_id"].to_pylist()
    times = table["timestamp"].to_pylist()
    is_choice = _choices(table, target)
    found: list[Moment] = []
    for first, end in pairwise(bounds):
        met_at: dict[str, int] = {}
        for place in range(first, end):
            met_at.setdefault(items[place], place)
        # Counted from the start on, so that whoever has but one event since then has a moment.
        earliest = bisect_left(times, start, min(first + min_history, end), end)
        for place in range(earliest, end, STRIDE):
            as_of = times[place]
            begin = place  # events of the very same moment are hidden with it
            while begin > first and times[begin - 1] == as_of:
                begin -= 1
            window = range(begin, min(place + WINDOW, end))
            chosen = {items[n] for n in window if is_choice[n] and met_at[items[n]] >= begin}
            if chosen and begin - first >= max(1, min_history):
                found.append(Moment(user_id=users[place], as_of=as_of, chosen=frozenset(chosen)))
    if len(found) > limit:
        kept = np.random.default_rng(seed).choice(len(found), size=limit, replace=False)
        found = [found[place] for place in np.sort(kept)]
    return found


def collect(
    interactions: pa.Table,
    *,
    target: Target,
    start: datetime,
    cut: datetime,
    histories: Histories,
    retriever: Retriever,
    config: TrainingConfig,
    created_at: Mapping[str, datetime] | None = None,
) -> list[Example]:
    """The training examples of all moments whose choices retrieval found, at least in part.

    `created_at` hides items from moments before they were there: nobody could have chosen them,
    and a model that met them would learn that new items are never chosen.
    """
    asked = moments(
        interactions,
        target=target,
        start=start,
        cut=cut,
        limit=config.max_examples,
        seed=config.seed,
    )
    past = histories([(moment.user_id, moment.as_of) for moment in asked])
    examples: list[Example] = []
    for first in range(0, len(asked), BLOCK):
        block = asked[first : first + BLOCK]
        queries = [
            Query(
                user_id=moment.user_id,
                history=history,
                as_of=moment.as_of,
                exclude=not_yet(created_at or {}, moment.as_of),
            )
            for moment, history in zip(block, past[first : first + BLOCK], strict=True)
        ]
        lists = retriever.retrieve_many(queries, limit=config.num_candidates)
        for moment, query, candidates in zip(block, queries, lists, strict=True):
            num_found = sum(candidate.item_id in moment.chosen for candidate in candidates)
            if 0 < num_found < len(candidates):
                examples.append(
                    Example(
                        # Whom retrieval hid is not asked again, and many sets are large.
                        query=replace(query, exclude=frozenset()),
                        candidates=tuple(candidates),
                        chosen=moment.chosen,
                        weights=retriever.weights,
                    )
                )
    return examples


def not_yet(created_at: Mapping[str, datetime], as_of: datetime) -> frozenset[str]:
    """The items that came to be after a moment; nobody could have chosen them then."""
    return frozenset(item_id for item_id, moment in created_at.items() if moment > as_of)


def _choices(table: pa.Table, target: Target) -> list[bool]:
    behaviors, weights = table["behavior"].to_pylist(), table["weight"].to_pylist()
    return [
        (target.behaviors is None or behavior in target.behaviors)
        and (target.min_weight is None or (weight is not None and weight >= target.min_weight))
        for behavior, weight in zip(behaviors, weights, strict=True)
    ]
