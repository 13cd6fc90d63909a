"""Judgements and interactions in, each judged user's last new choice with its own moment out.

Protocols of one right answer ask for the last item of a user, with all that came before it as
history. What is fitted still knows only what precedes the cut; the history that is read at request
time is later. Where events have no order, the last of one moment is the one with the largest id.
"""

from collections.abc import Sequence
from datetime import UTC

import pyarrow as pa
import pyarrow.compute as pc

from evaluation.judgements import Judgement


def last_choices(interactions: pa.Table, judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """For each judgement the one of its items that the user met last, asked just before that.

    Args:
        interactions: Columns user_id, item_id, timestamp and position; those that were judged.
        judgements: Each with at least one item, which its user met in `interactions`.

    Returns:
        In the order of the judgements. `as_of` is the moment at which the item was first met, so
        that a history strictly before it does not hold it.
    """
    pairs = [(one.user_id, item_id) for one in judgements for item_id in sorted(one.item_ids)]
    wanted = pa.table(
        {
            "user_id": pa.array([user_id for user_id, _ in pairs], pa.string()),
            "item_id": pa.array([item_id for _, item_id in pairs], pa.string()),
        }
    )
    names = ("user_id", "item_id")
    events = pa.table(
        {name: interactions[name].cast(pa.string()) for name in names}
        | {
            "timestamp": interactions["timestamp"],
            "position": pc.fill_null(interactions["position"].cast(pa.int64()), -1),
        }
    ).join(wanted, keys=list(names), join_type="left semi")
    first = events.group_by(list(names)).aggregate([("timestamp", "min"), ("position", "min")])
    order = [(name, "ascending") for name in ("timestamp_min", "position_min", "item_id")]
    last = {row["user_id"]: row for row in first.sort_by(order).to_pylist()}
    return tuple(
        Judgement(
            user_id=one.user_id,
            as_of=last[one.user_id]["timestamp_min"].astimezone(UTC),
            item_ids=frozenset({last[one.user_id]["item_id"]}),
        )
        for one in judgements
    )


def touched(interactions: pa.Table, judgements: Sequence[Judgement]) -> dict[str, frozenset[str]]:
    """For each judged user every item that they ever met, before or after they were asked."""
    wanted = pa.array([one.user_id for one in judgements], pa.string())
    events = pa.table(
        {name: interactions[name].cast(pa.string()) for name in ("user_id", "item_id")}
    )
    events = events.filter(pc.is_in(events["user_id"], value_set=wanted))
    lists = events.group_by("user_id").aggregate([("item_id", "distinct")])
    rows = zip(lists["user_id"].to_pylist(), lists["item_id_distinct"].to_pylist(), strict=True)
    found = {user_id: frozenset(item_ids) for user_id, item_ids in rows}
    return {one.user_id: found.get(one.user_id, frozenset()) for one in judgements}
