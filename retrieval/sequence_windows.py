"""Interactions before a cut in, windows of each user's events out, and batches of like length.

A user's events are ordered by timestamp, then position, then as given. A history longer than the
limit is cut from its end into windows that overlap by one event, so that every event but a user's
first is predicted once.

Shape legend: E events, W windows, B windows of a batch, L events of a window.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.sequence_config import SequenceConfig

MAX_BEHAVIORS = 64  # a free text as behavior would be one for each event


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Events by user and time, and where each window of them lies."""

    item_ids: tuple[str, ...]
    """The items that occur, sorted."""
    behaviors: tuple[str, ...]
    """The behaviors that occur, sorted."""
    items_E: NDArray[np.int64]
    """Rows of `item_ids`."""
    behaviors_E: NDArray[np.int64]
    """Places among `behaviors`, from 1."""
    weights_E: NDArray[np.float32]
    """What predicting the event counts; 0 for what is not predicted."""
    starts_W: NDArray[np.int64]
    lengths_W: NDArray[np.int64]
    """At least 2, at most the limit and one more."""

    def digest(self) -> str:
        """16 hex digits that change with anything above."""
        digest = hashlib.sha256(repr((self.item_ids, self.behaviors)).encode())
        for column in (self.items_E, self.behaviors_E, self.weights_E, self.starts_W):
            digest.update(column.tobytes())
        digest.update(self.lengths_W.tobytes())
        return digest.hexdigest()[:16]


def read_windows(
    interactions: pa.Table,
    *,
    known: Sequence[str],
    until: datetime | None,
    config: SequenceConfig,
) -> Windows:
    """What is trained on.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally position.
        known: The items that have a row; events with others are left out.
        until: The training cut, in UTC: only events strictly before it count, and none without a
            timestamp. None takes all.
        config: Says how long a window is and what is predicted.

    Raises:
        ValueError: a cut without a time zone, too many behaviors, or nothing to predict.
    """
    if until is not None and until.tzinfo is None:
        raise ValueError(f"until needs a time zone (UTC), got {until}")
    events = interactions.filter(pc.is_in(interactions["item_id"], pa.array(known, pa.string())))
    if until is not None:
        # A missing timestamp compares as null, and a filter drops what is null.
        moment = pa.scalar(until, type=events["timestamp"].type)
        events = events.filter(pc.less(events["timestamp"], moment))
    users_E, items_E, behaviors_E = (
        events[name].to_numpy(zero_copy_only=False).astype(str)
        for name in ("user_id", "item_id", "behavior")
    )
    item_ids, items_E = np.unique(items_E, return_inverse=True)
    behaviors, behaviors_E = np.unique(behaviors_E, return_inverse=True)
    if len(behaviors) > MAX_BEHAVIORS:
        raise ValueError(f"{len(behaviors)} behaviors are too many: at most {MAX_BEHAVIORS}")
    _, users_E = np.unique(users_E, return_inverse=True)
    order_E = np.lexsort((_numbers(events, "position"), _numbers(events, "timestamp"), users_E))
    users_E, items_E, behaviors_E = users_E[order_E], items_E[order_E], behaviors_E[order_E]
    by_behavior = [config.behavior_weights.get(one, 1.0) for one in behaviors.tolist()]
    weights_E = np.asarray(by_behavior, dtype=np.float32)[behaviors_E]
    if not config.predict_repeats:
        weights_E = _at_first(users_E, items_E, weights_E)
    starts, lengths = _cut(np.bincount(users_E), config.limit)
    is_of_use_W = np.array(
        [weights_E[a + 1 : a + n].any() for a, n in zip(starts, lengths, strict=True)], dtype=bool
    )
    if not is_of_use_W.any():
        raise ValueError(
            f"no user has two events before {until} with items of the catalog, the later of them "
            f"to be predicted: nothing is left to train the sequence encoder on"
        )
    return Windows(
        item_ids=tuple(item_ids.tolist()),
        behaviors=tuple(behaviors.tolist()),
        items_E=items_E,
        behaviors_E=behaviors_E + 1,
        weights_E=weights_E,
        starts_W=np.asarray(starts, dtype=np.int64)[is_of_use_W],
        lengths_W=np.asarray(lengths, dtype=np.int64)[is_of_use_W],
    )


def batches(
    windows: Windows, *, size: int, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """All windows once, in batches of about `size` events: (places of events, what is padding).

    Windows of like length share a batch, so that little is padding; batches come in any order.
    Both are [B, L]; the padding is behind, its places are those of the last event there is.
    """
    order_W = np.lexsort((random.random(len(windows.starts_W)), windows.lengths_W))  # nosec B311
    cuts, start = [], 0
    for place, length in enumerate(windows.lengths_W[order_W].tolist()):
        if place > start and (place - start + 1) * (length - 1) > size:
            cuts.append(place)
            start = place
    parts = np.split(order_W, cuts)
    for part in random.permutation(len(parts)).tolist():
        rows_B = parts[part]
        steps_L = np.arange(windows.lengths_W[rows_B].max())
        is_padding_BL = steps_L >= windows.lengths_W[rows_B, None]
        places_BL = windows.starts_W[rows_B, None] + steps_L
        yield places_BL.clip(max=len(windows.items_E) - 1), is_padding_BL


def _numbers(events: pa.Table, name: str) -> NDArray[np.int64]:
    """A column to sort by; what is absent comes first."""
    if name not in events.column_names or pa.types.is_null(events[name].type):
        return np.zeros(len(events), dtype=np.int64)
    column = events[name]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    filled = pc.fill_null(column.cast(pa.int64()), np.iinfo(np.int64).min)
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def _at_first(
    users_E: NDArray[np.int64], items_E: NDArray[np.int64], weights_E: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a user's first event with an item counts: as much as the strongest that came of it.

    Who buys has looked before, so that no first event is a purchase; yet it is the purchase that
    is to be foreseen. Later events with the item count nothing, for the history holds it.
    """
    keys_E = users_E * (items_E.max(initial=0) + 1) + items_E
    _, firsts_P, pairs_E = np.unique(keys_E, return_index=True, return_inverse=True)
    strongest_P = np.zeros(len(firsts_P), dtype=np.float32)
    np.maximum.at(strongest_P, pairs_E, weights_E)
    counted_E = np.zeros_like(weights_E)
    counted_E[firsts_P] = strongest_P
    return counted_E


def _cut(lengths_U: NDArray[np.int64], limit: int) -> tuple[list[int], list[int]]:
    """Where the windows of each user's events start, and how long they are."""
    starts, lengths, first = [], [], 0
    for length in lengths_U.tolist():
        end = length
        while end > 1:
            start = max(0, end - limit - 1)
            starts.append(first + start)
            lengths.append(end - start)
            end = start + 1
        first += length
    return starts, lengths
