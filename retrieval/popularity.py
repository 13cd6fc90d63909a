"""Interactions in, items by how often they were touched out: the baseline, and the last resort."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.candidates import Candidate

SECONDS_A_DAY = 86_400


class Popular:
    """A catalog by popularity: the answer where nothing is known of a query."""

    def __init__(self, counts: Iterable[tuple[str, float]], item_ids: Sequence[str]) -> None:
        """Order a catalog.

        Args:
            counts: (item id, count); items outside the catalog are passed over.
            item_ids: The catalog; an item without a count has none.
        """
        catalog = frozenset(item_ids)
        known = {item_id: count for item_id, count in counts if item_id in catalog}
        most = max(known.values(), default=1.0)
        self.shares = {item_id: known.get(item_id, 0.0) / most for item_id in item_ids}
        """Each item's count as a share of the largest one."""
        self.order = tuple(self.ordered(item_ids))
        """Most popular first, ties by item id."""

    def ordered(self, item_ids: Collection[str]) -> list[str]:
        """Items, most popular first, ties by item id; one outside the catalog has no count."""
        return sorted(item_ids, key=lambda item_id: (-self.shares.get(item_id, 0.0), item_id))

    def candidates(self, item_ids: Sequence[str]) -> list[Candidate]:
        """Ordered items as candidates for whom nothing but popularity speaks."""
        return [
            Candidate(item_id=item_id, score=self.shares.get(item_id, 0.0), rank=rank)
            for rank, item_id in enumerate(item_ids, start=1)
        ]


def popularity(
    interactions: pa.Table, *, until: datetime | None, half_life_days: float | None = None
) -> list[tuple[str, float]]:
    """The touched items and their counts, most popular first, ties by item id.

    Args:
        interactions: Columns item_id and timestamp.
        until: Only events strictly before it count; given, events without a time are left out.
            None counts all.
        half_life_days: An event counts half as much as one that came so many days later; one
            without a time counts as the oldest. None counts all events alike.
    """
    if half_life_days is not None and half_life_days <= 0:
        raise ValueError(f"half_life_days must be positive, got {half_life_days}")
    events = interactions.select(["item_id", "timestamp"])
    if until is not None:
        if until.tzinfo is None:
            raise ValueError(f"until needs a time zone (UTC), got {until}")
        cut = pa.scalar(until, type=events.schema.field("timestamp").type)
        events = events.filter(pc.less(events["timestamp"], cut))
    if events.num_rows == 0:
        return []
    item_ids, item_of_event = np.unique(
        events["item_id"].to_numpy().astype(str), return_inverse=True
    )
    weights = _decay(events["timestamp"], half_life_days) if half_life_days else None
    counts = np.bincount(item_of_event, weights=weights, minlength=len(item_ids))
    pairs = zip(item_ids.tolist(), counts.astype(float).tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _decay(timestamps: pa.ChunkedArray, half_life_days: float) -> NDArray[np.float64]:
    """Each event's weight; the newest weighs 1."""
    oldest = pc.min(timestamps)
    if not oldest.is_valid:
        return np.ones(len(timestamps))
    times = pc.fill_null(timestamps, oldest).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    days = (times.to_numpy() - pc.max(times).as_py()) / (SECONDS_A_DAY * 1e6)
    weights_E: NDArray[np.float64] = np.exp2(days / half_life_days)
    return weights_E
