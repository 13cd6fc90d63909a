"""Parallel lists in, events out: a stored history row as interactions, oldest first."""

import math
from collections.abc import Sequence
from datetime import timedelta

from embedders.items import EPOCH, Interaction


def to_interactions(
    user_id: str,
    item_ids: Sequence[str],
    behaviors: Sequence[str],
    *,
    times: Sequence[int],
    weights: Sequence[float],
) -> tuple[Interaction, ...]:
    """The events of one row.

    An event whose catalog knows only its position has the time under which it was stored: the
    epoch plus one second for each position.
    """
    return tuple(
        Interaction(
            user_id=user_id,
            item_id=item_id,
            behavior=behavior,
            timestamp=EPOCH + timedelta(microseconds=time),
            weight=None if math.isnan(weight) else weight,
        )
        for item_id, behavior, time, weight in zip(item_ids, behaviors, times, weights, strict=True)
    )
