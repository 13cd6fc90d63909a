"""Interactions in, what was known at the cut out: popularity, and what each user had met.

Only events before the cut are read, so neither can leak what happened after it. Where users are
asked at moments of their own, `seen_before` says what each had met by then; popularity stays
the cut's.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from evaluation.judgements import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The state of the world just before the cut."""

    popularity: tuple[str, ...]
    """Items with at least one event, by falling number of distinct users, ties by item id.
    An item that is not in here is cold."""
    num_fans: dict[str, int]
    """Item -> distinct users, in the order of `popularity`."""
    seen: dict[str, frozenset[str]]
    """For each user asked for: every item met in any way."""
    num_interactions: int
    num_users: int


def history(
    interactions: pa.Table, *, cut: datetime, user_ids: Collection[str] | None = None
) -> History:
    """What happened before `cut`; `seen` for `user_ids` alone (None means everybody).

    Popularity counts users, not events, so that one fan does not make an item popular.
    """
    moment = pa.scalar(cut, pa.timestamp("us", tz="UTC")).cast(interactions["timestamp"].type)
    before = interactions.filter(pc.less(interactions["timestamp"], moment))
    ids = [before[name].cast(pa.string()) for name in ("user_id", "item_id")]
    pairs = pa.table(ids, names=["user_id", "item_id"]).group_by(["user_id", "item_id"])
    met = pairs.aggregate([])

    fans = met.group_by("item_id").aggregate([("user_id", "count")])
    fans = fans.sort_by([("user_id_count", "descending"), ("item_id", "ascending")])
    num_users = met.group_by("user_id").aggregate([]).num_rows
    if user_ids is not None:
        wanted = pa.array(sorted(user_ids), pa.string())
        met = met.filter(pc.is_in(met["user_id"], value_set=wanted))
    popularity = tuple(fans["item_id"].to_pylist())
    return History(
        popularity=popularity,
        num_fans=dict(zip(popularity, fans["user_id_count"].to_pylist(), strict=True)),
        seen=_by_user(met),
        num_interactions=before.num_rows,
        num_users=num_users,
    )


def seen_before(
    interactions: pa.Table, judgements: Sequence[Judgement]
) -> dict[str, frozenset[str]]:
    """For each judged user every item met in any way strictly before the judgement's `as_of`.

    Events without a timestamp are passed over. A user who had met nothing has an empty set.

    Raises:
        ValueError: a user is judged twice.
    """
    as_of = {one.user_id: one.as_of for one in judgements}
    if len(as_of) < len(judgements):
        raise ValueError("a user is judged twice, so there is no one moment before which to look")
    time = interactions["timestamp"].type
    moments = pa.array(as_of.values(), pa.timestamp("us", tz="UTC")).cast(time)
    asked = pa.table([pa.array(as_of, pa.string()), moments], names=["user_id", "as_of"])
    events = pa.table(
        {name: interactions[name].cast(pa.string()) for name in ("user_id", "item_id")}
        | {"timestamp": interactions["timestamp"]}
    ).join(asked, keys="user_id", join_type="inner")
    earlier = events.filter(pc.less(events["timestamp"], events["as_of"]))
    met = _by_user(earlier.group_by(["user_id", "item_id"]).aggregate([]))
    return {user_id: met.get(user_id, frozenset()) for user_id in as_of}


def _by_user(met: pa.Table) -> dict[str, frozenset[str]]:
    by_user = met.group_by("user_id").aggregate([("item_id", "list")])
    lists = zip(by_user["user_id"].to_pylist(), by_user["item_id_list"].to_pylist(), strict=True)
    return {user_id: frozenset(item_ids) for user_id, item_ids in lists}
