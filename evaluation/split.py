"""Interactions in, judgements out: what each user newly chose at or after a cut in time.

One cut for everybody (a global temporal split): leaving out each user's last event instead would
let events of other users that lie after it into the training data. Times are UTC. The window is
half open: `cut <= timestamp < until`. Users come ordered by id.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.judgements import Judgement

COLUMNS = ("user_id", "item_id", "behavior", "weight", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The judged users, and every user of the window who is not judged, counted by cause.

    Each user is counted under the first cause that applies, in the order of the fields, so that
    `num_users_after` is the number of judgements plus all the `num_without_...` and
    `num_not_sampled`.
    """

    judgements: tuple[Judgement, ...]
    num_users_after: int
    """Users with any event in the window."""
    num_without_history: int
    """They have fewer than `min_history` events before the cut."""
    num_without_choices: int
    """No event in the window has one of the behaviors and the weight asked for."""
    num_without_known_items: int
    """All that they chose is missing from the catalog."""
    num_without_new_items: int
    """They chose only items that they had met before the cut."""
    num_not_sampled: int = 0
    """Left out by `sample`."""
    num_unknown_items: int = 0
    """Distinct items chosen by users with a history that the catalog does not hold."""
    num_repeated_choices: int = 0
    """(user, item) choices dropped because the user had met the item before the cut."""

    @property
    def counts(self) -> dict[str, int]:
        """Every count under its own name, as a report lists them."""
        return {one.name: getattr(self, one.name) for one in fields(self)[1:]}


def split(
    interactions: pa.Table,
    *,
    cut: datetime,
    until: datetime | None = None,
    behaviors: Collection[str] | None = None,
    min_weight: float | None = None,
    min_history: int = 1,
    known_items: Collection[str] | None = None,
) -> Split:
    """Judge every user by the new items that they chose from `cut` on.

    Args:
        interactions: Columns user_id, item_id, behavior, weight, timestamp (UTC); more may follow.
        cut: The moment up to which everything may be learned; it belongs to the window.
        until: The end of the window, outside of it; None means that it is open.
        behaviors: What counts as a choice; None means every behavior.
        min_weight: The least weight of a choice. An event without a weight is then no choice.
        min_history: How many events of any kind before the cut a judged user has at least.
        known_items: The catalog's item ids; None means that every item is known.

    Returns:
        Judgements ordered by user id. An item that the user met before the cut in any way, be it
        a mere view, is not new and is judged neither as right nor, by the seen-item filter, wrong.

    Raises:
        ValueError: a missing column, events without a timestamp, a cut without a time zone, or a
            window that ends before it begins.
    """
    _check(interactions, cut, until)
    events = _with_plain_ids(interactions)
    before = events.filter(pc.less(events["timestamp"], _scalar(events, cut)))
    in_window = pc.greater_equal(events["timestamp"], _scalar(events, cut))
    if until is not None:
        in_window = pc.and_(in_window, pc.less(events["timestamp"], _scalar(events, until)))
    after = events.filter(in_window)
    users_after = _distinct(after, "user_id")

    counts = before.group_by("user_id").aggregate([("item_id", "count")])
    counts = counts.filter(pc.greater_equal(counts["item_id_count"], min_history))
    with_history = users_after
    if min_history > 0:
        with_history = _only(users_after, counts.select(["user_id"]), "left semi", ["user_id"])

    after = _only(after, with_history, "left semi", ["user_id"])
    chosen = _distinct(_chosen(after, behaviors, min_weight), "user_id", "item_id")
    known, num_unknown_items = _known(chosen, known_items)
    new = _only(known, _distinct(before, "user_id", "item_id"), "left anti", ["user_id", "item_id"])
    num_choosing, num_knowing = _num_users(chosen), _num_users(known)
    judgements = _judgements(new, cut)
    return Split(
        judgements=judgements,
        num_users_after=users_after.num_rows,
        num_without_history=users_after.num_rows - with_history.num_rows,
        num_without_choices=with_history.num_rows - num_choosing,
        num_without_known_items=num_choosing - num_knowing,
        num_without_new_items=num_knowing - len(judgements),
        num_unknown_items=num_unknown_items,
        num_repeated_choices=known.num_rows - new.num_rows,
    )


def sample(whole: Split, *, limit: int, seed: int) -> Split:
    """The same split with at most `limit` users, drawn evenly without replacement.

    Equal seeds draw equal users; the order by user id is kept and the rest is counted.
    """
    num_left_out = len(whole.judgements) - limit
    if num_left_out <= 0:
        return whole
    drawn = np.random.default_rng(seed).choice(len(whole.judgements), size=limit, replace=False)
    return replace(
        whole,
        judgements=tuple(whole.judgements[i] for i in np.sort(drawn)),
        num_not_sampled=whole.num_not_sampled + num_left_out,
    )


def _check(interactions: pa.Table, cut: datetime, until: datetime | None) -> None:
    missing = sorted(set(COLUMNS) - set(interactions.column_names))
    if missing:
        raise ValueError(
            f"interactions lack the columns {missing}; found {interactions.column_names}"
        )
    for name, moment in (("cut", cut), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{name} {moment} names no time zone; use UTC")
    if until is not None and until <= cut:
        raise ValueError(f"the window ends ({until}) before it begins ({cut})")
    num_timeless = interactions["timestamp"].null_count
    if num_timeless:
        raise ValueError(
            f"{num_timeless} of {interactions.num_rows} interactions have no timestamp, so a cut "
            "in time cannot place them; give them timestamps or leave them out"
        )


def _with_plain_ids(interactions: pa.Table) -> pa.Table:
    """The columns needed; ids and behavior as plain strings, since dictionaries do not join."""
    columns = [
        interactions[name].cast(pa.string())
        if name in ("user_id", "item_id", "behavior")
        else interactions[name]
        for name in COLUMNS
    ]
    return pa.table(columns, names=list(COLUMNS))


def _scalar(events: pa.Table, moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC")).cast(events["timestamp"].type)


def _chosen(
    events: pa.Table, behaviors: Collection[str] | None, min_weight: float | None
) -> pa.Table:
    if behaviors is not None:
        wanted = pa.array(sorted(behaviors), pa.string())
        events = events.filter(pc.is_in(events["behavior"], value_set=wanted))
    if min_weight is not None:
        events = events.filter(pc.greater_equal(events["weight"], min_weight))
    return events


def _known(chosen: pa.Table, known_items: Collection[str] | None) -> tuple[pa.Table, int]:
    """The choices that the catalog holds, and how many distinct items it does not hold."""
    if known_items is None:
        return chosen, 0
    held = pa.array(sorted(known_items), pa.string())
    is_known = pc.is_in(chosen["item_id"], value_set=held)
    return chosen.filter(is_known), _distinct(
        chosen.filter(pc.invert(is_known)), "item_id"
    ).num_rows


def _distinct(table: pa.Table, *columns: str) -> pa.Table:
    return table.group_by(list(columns)).aggregate([])


def _num_users(table: pa.Table) -> int:
    return int(_distinct(table, "user_id").num_rows)


def _only(table: pa.Table, others: pa.Table, how: str, keys: list[str]) -> pa.Table:
    return table.join(others, keys=keys, join_type=how)


def _judgements(choices: pa.Table, cut: datetime) -> tuple[Judgement, ...]:
    listed = choices.group_by("user_id").aggregate([("item_id", "list")]).sort_by("user_id")
    return tuple(
        Judgement(user_id=user_id, as_of=cut, item_ids=frozenset(item_ids))
        for user_id, item_ids in zip(
            listed["user_id"].to_pylist(), listed["item_id_list"].to_pylist(), strict=True
        )
    )
