"""Interactions in, judgements out: what each user newly chose at or after a cut in time.

One cut for everybody (a global temporal split): leaving out each user's last event instead would
let events of other users that lie after it into the training data. Times are UTC. The window is
half open: `cut <= timestamp < until`. Users come ordered by id.

Where people come, act in one sitting and leave, as in MovieLens, hardly anybody has acted both
before a cut and after it. `warm_up` then lets newcomers be judged as well: each is asked after
their own first events of the window. Everything that is fitted still knows only what precedes the
cut; only the history that is read at request time is later.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.judgements import Judgement

COLUMNS = ("user_id", "item_id", "behavior", "weight", "timestamp")
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The judged users, and every user of the window who is not judged, counted by cause.

    Each user is counted under the first cause that applies, in the order of the fields, so that
    `num_users_after` is the number of judgements plus all the `num_without_...` and
    `num_not_sampled`.
    """

    judgements: tuple[Judgement, ...]
    cut: datetime
    """Where the window begins. A judgement of a later `as_of` is of a user who was warmed up."""
    num_users_after: int
    """Users with any event in the window."""
    num_without_history: int
    """They have fewer than `min_history` events before the cut, and were not warmed up."""
    num_without_choices: int
    """No event in the window has one of the behaviors and the weight asked for."""
    num_without_known_items: int
    """All that they chose is missing from the catalog."""
    num_without_new_items: int
    """They chose only items that they had met before they were asked."""
    num_not_sampled: int = 0
    """Left out by `sample`."""
    num_unknown_items: int = 0
    """Distinct items chosen by users with a history that the catalog does not hold."""
    num_repeated_choices: int = 0
    """(user, item) choices dropped because the user had met the item before being asked."""

    @property
    def num_warmed_up(self) -> int:
        """How many of the judged users are asked after their first events of the window."""
        return sum(judgement.as_of > self.cut for judgement in self.judgements)

    @property
    def counts(self) -> dict[str, int]:
        """Every count under its own name, as a report lists them."""
        names = [one.name for one in fields(self) if one.name.startswith("num_")]
        return {name: getattr(self, name) for name in (*names, "num_warmed_up")}


def split(
    interactions: pa.Table,
    *,
    cut: datetime,
    until: datetime | None = None,
    behaviors: Collection[str] | None = None,
    min_weight: float | None = None,
    min_history: int = 1,
    known_items: Collection[str] | None = None,
    warm_up: int | None = None,
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
        warm_up: A user with less history than that is asked after so many events of the window:
            `as_of` is the time of their first event that is strictly later, so that events of one
            moment stay together. Whoever has no later one stays without history. None asks
            nobody later than at the cut.

    Returns:
        Judgements ordered by user id. An item that the user met before `as_of` in any way, be it
        a mere view, is not new and is judged neither as right nor, by the seen-item filter, wrong.

    Raises:
        ValueError: a missing column, events without a timestamp, a cut without a time zone, a
            window that ends before it begins, or a warm-up without events.
    """
    _check(interactions, cut, until, warm_up)
    events = _plain(interactions)
    in_window = pc.greater_equal(events["timestamp"], _scalar(cut))
    if until is not None:
        in_window = pc.and_(in_window, pc.less(events["timestamp"], _scalar(until)))
    after = events.filter(in_window)
    before = events.filter(pc.less(events["timestamp"], _scalar(cut)))
    users_after = _distinct(after, "user_id")

    asked = _at_the_cut(users_after, before, cut, min_history)
    if warm_up is not None:
        strangers = _only(after, asked, "left anti", ["user_id"])
        asked = pa.concat_tables([asked, _warmed_up(strangers, warm_up)])
    met, after = _divided(pa.concat_tables([before, after]), asked)

    chosen = _distinct(_chosen(after, behaviors, min_weight), "user_id", "item_id")
    known, unknown = _known(chosen, known_items)
    pair = ["user_id", "item_id"]
    new, new_unknown = (
        _only(one, _distinct(met, *pair), "left anti", pair) for one in (known, unknown)
    )
    num_choosing, num_knowing = _num_users(chosen), _num_users(known)
    judgements = _judgements(new, asked, _by_user(new_unknown))
    return Split(
        judgements=judgements,
        cut=cut,
        num_users_after=users_after.num_rows,
        num_without_history=users_after.num_rows - asked.num_rows,
        num_without_choices=asked.num_rows - num_choosing,
        num_without_known_items=num_choosing - num_knowing,
        num_without_new_items=num_knowing - len(judgements),
        num_unknown_items=_distinct(unknown, "item_id").num_rows,
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


def _check(
    interactions: pa.Table, cut: datetime, until: datetime | None, warm_up: int | None
) -> None:
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
    if warm_up is not None and warm_up < 1:
        raise ValueError(f"warm_up counts events and must be at least 1, got {warm_up}")
    num_timeless = interactions["timestamp"].null_count
    if num_timeless:
        raise ValueError(
            f"{num_timeless} of {interactions.num_rows} interactions have no timestamp, so a cut "
            "in time cannot place them; give them timestamps or leave them out"
        )


def _plain(interactions: pa.Table) -> pa.Table:
    """The columns needed; ids and behavior as plain strings, since dictionaries do not join."""
    types = {name: pa.string() for name in ("user_id", "item_id", "behavior")} | {"timestamp": TIME}
    columns = [
        interactions[name].cast(types[name], safe=False) if name in types else interactions[name]
        for name in COLUMNS
    ]
    return pa.table(columns, names=list(COLUMNS))


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, TIME)


def _at_the_cut(
    users_after: pa.Table, before: pa.Table, cut: datetime, min_history: int
) -> pa.Table:
    """The users with enough history, each with the cut as `as_of`."""
    if min_history > 0:
        counts = before.group_by("user_id").aggregate([("item_id", "count")])
        counts = counts.filter(pc.greater_equal(counts["item_id_count"], min_history))
        users_after = _only(users_after, counts.select(["user_id"]), "left semi", ["user_id"])
    return users_after.append_column("as_of", pa.repeat(_scalar(cut), users_after.num_rows))


def _warmed_up(strangers: pa.Table, warm_up: int) -> pa.Table:
    """The users with an event later than their first `warm_up` ones; its time as `as_of`."""
    ordered = strangers.select(["user_id", "timestamp"])
    ordered = ordered.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    users_E = ordered["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    place_E = np.arange(len(users_E)) - np.searchsorted(users_E, users_E)
    last = ordered.filter(pa.array(place_E == warm_up - 1))
    last = last.rename_columns(["user_id", "last"])
    rest = ordered.join(last, keys="user_id", join_type="inner")
    rest = rest.filter(pc.greater(rest["timestamp"], rest["last"]))
    first = rest.group_by("user_id").aggregate([("timestamp", "min")])
    return pa.table([first["user_id"], first["timestamp_min"]], names=["user_id", "as_of"])


def _divided(events: pa.Table, asked: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The asked users' events before they are asked, and those from then on."""
    events = events.join(asked, keys="user_id", join_type="inner")
    is_before = pc.less(events["timestamp"], events["as_of"])
    return events.filter(is_before), events.filter(pc.invert(is_before))


def _chosen(
    events: pa.Table, behaviors: Collection[str] | None, min_weight: float | None
) -> pa.Table:
    if behaviors is not None:
        wanted = pa.array(sorted(behaviors), pa.string())
        events = events.filter(pc.is_in(events["behavior"], value_set=wanted))
    if min_weight is not None:
        events = events.filter(pc.greater_equal(events["weight"], min_weight))
    return events


def _known(chosen: pa.Table, known_items: Collection[str] | None) -> tuple[pa.Table, pa.Table]:
    """The choices that the catalog holds, and those that it does not hold."""
    if known_items is None:
        return chosen, chosen.slice(0, 0)
    held = pa.array(sorted(known_items), pa.string())
    is_known = pc.is_in(chosen["item_id"], value_set=held)
    return chosen.filter(is_known), chosen.filter(pc.invert(is_known))


def _distinct(table: pa.Table, *columns: str) -> pa.Table:
    return table.group_by(list(columns)).aggregate([])


def _num_users(table: pa.Table) -> int:
    return int(_distinct(table, "user_id").num_rows)


def _only(table: pa.Table, others: pa.Table, how: str, keys: list[str]) -> pa.Table:
    return table.join(others, keys=keys, join_type=how)


def _by_user(choices: pa.Table) -> dict[str, frozenset[str]]:
    listed = choices.group_by("user_id").aggregate([("item_id", "list")])
    lists = zip(listed["user_id"].to_pylist(), listed["item_id_list"].to_pylist(), strict=True)
    return {user_id: frozenset(item_ids) for user_id, item_ids in lists}


def _judgements(
    choices: pa.Table, asked: pa.Table, unknown: Mapping[str, frozenset[str]]
) -> tuple[Judgement, ...]:
    timed = choices.join(asked, keys="user_id", join_type="inner")
    listed = timed.group_by(["user_id", "as_of"]).aggregate([("item_id", "list")])
    listed = listed.sort_by("user_id")
    columns = (listed[name].to_pylist() for name in ("user_id", "as_of", "item_id_list"))
    return tuple(
        Judgement(
            user_id=user_id,
            as_of=as_of.astimezone(UTC),
            item_ids=frozenset(item_ids),
            unknown_item_ids=unknown.get(user_id, frozenset()),
        )
        for user_id, as_of, item_ids in zip(*columns, strict=True)
    )
