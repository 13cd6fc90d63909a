"""Interactions in, what was known at the cut out: popularity, and what each user had met.

Only events before the cut are read, so neither can leak what happened after it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The state of the world just before the cut."""

    popularity: tuple[str, ...]
    """Items with at least one event, by falling number of distinct users, ties by item id.
    An item that is not in here is cold."""
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
    by_user = met.group_by("user_id").aggregate([("item_id", "list")])
    lists = zip(by_user["user_id"].to_pylist(), by_user["item_id_list"].to_pylist(), strict=True)
    return History(
        popularity=tuple(fans["item_id"].to_pylist()),
        seen={user_id: frozenset(item_ids) for user_id, item_ids in lists},
        num_interactions=before.num_rows,
        num_users=num_users,
    )
