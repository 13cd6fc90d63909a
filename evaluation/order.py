"""Interactions in, the same interactions on a clock of their own out: train, then valid, then test.

    events  |------ train ------|---- valid ----|---- test ----|
                           graph_until         cut

Everything that keeps time (histories, training, tuning, judging) then keeps a split that is not
one of time, without knowing of it. The clock ticks in seconds from the epoch: a band's moments are
numbered in their order, each band begins where the one before it ends, and so no moment before the
cut depends on an event behind it. Within a band moments are the events' real times, else their
positions; where there is neither, all of a band is one moment. Gaps between moments are lost.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SplitName = Literal["time", "user", "given"]
BANDS = ("train", "valid", "test")
START = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=1)
TIME = pa.timestamp("us", tz="UTC")
LEAKS: Mapping[SplitName, str] = {
    "time": "One cut in time for everybody: nothing was learned from what happened from it on.",
    "user": "Each user's last choice is judged, whenever it was: everything was fitted on events "
    "of other users that lie later than it, so these numbers flatter what a live system would do.",
    "given": "The catalog's own split is judged, not one in time: what was fitted may have seen "
    "later events of the same and of other users, so these numbers compare with others on the "
    "same split, not with what a live system would do.",
}
"""What each split lets into the fitting that a live system would not have known."""

Moments = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Interactions on the clock of a split."""

    interactions: pa.Table
    """As given, but for `timestamp` (the clock's) and `split` (the band); by user, time, position
    and item."""
    graph_until: datetime
    """Where train ends and valid begins."""
    cut: datetime
    """Where valid ends and test begins."""
    has_order: bool
    """Whether events of one band have an order; else they share a moment."""


def by_given(interactions: pa.Table) -> Ordered:
    """The bands that the column `split` names.

    Args:
        interactions: Columns user_id, item_id, timestamp, position, split; more may follow.

    Raises:
        ValueError: an event has no split, train or valid is empty, or only some events have a time
            or a position.
    """
    splits = interactions["split"].cast(pa.string())
    if splits.null_count:
        raise ValueError(
            f"{splits.null_count} of {interactions.num_rows} interactions have no split, so the "
            f"catalog's own cannot be followed: give each one of {', '.join(BANDS)}, or set "
            'time.split = "time" or "user"'
        )
    bands_E = pc.index_in(splits, value_set=pa.array(BANDS)).to_numpy()
    return _ordered(interactions, bands_E.astype(np.int64), _moments(interactions))


def by_user(
    interactions: pa.Table,
    *,
    behaviors: Collection[str] | None = None,
    min_weight: float | None = None,
) -> Ordered:
    """Each user's last choice is test, the one before it valid, and what precedes both is train.

    A choice is counted where its item was first met in any way, for judging counts only items that
    are new to the user: a purchase and the view before it are one. So test holds exactly one newly
    chosen item of each user who ever chose anything, valid at most one, and other events go with
    the choice that they follow. Ties in time fall by the table's order, which is the catalog's: by
    position, then by item id.

    Args:
        interactions: Columns user_id, item_id, behavior, weight, timestamp, position.
        behaviors: What counts as a choice; None means every behavior.
        min_weight: The least weight of a choice; an event without a weight is then none.

    Raises:
        ValueError: the events have neither times nor positions, or only some of them have, or
            nobody chose twice.
    """
    moments_E = _moments(interactions)
    if moments_E is None:
        raise ValueError(
            "the interactions state neither times nor positions, so nobody's last choice is "
            'known: give them one of the two, or set time.split = "given"'
        )
    order_E = _order(interactions["user_id"], moments_E)
    users_E, pairs_E = _codes(interactions, order_E)
    is_choice_E = _is_choice(interactions, behaviors, min_weight)[order_E]
    _, first_met_P, pair_of_E = np.unique(pairs_E, return_index=True, return_inverse=True)
    is_chosen_P = np.bincount(pair_of_E, weights=is_choice_E, minlength=len(first_met_P)) > 0
    places = np.sort(first_met_P[is_chosen_P])  # by user, oldest first
    users = users_E[places]
    is_last = np.append(users[1:] != users[:-1], True)[: len(users)]
    is_second = np.append((users[1:] == users[:-1]) & is_last[1:], False)[: len(users)]
    borders_UB = np.full((int(users_E.max(initial=-1)) + 1, 2), len(order_E))
    borders_UB[users[is_second], 0] = places[is_second]
    borders_UB[users[is_last], 1] = places[is_last]
    sorted_bands_E = (np.arange(len(order_E))[:, None] >= borders_UB[users_E]).sum(axis=1)
    # Who chose once has no valid band: all from that choice on is test.
    sorted_bands_E[np.arange(len(order_E)) >= borders_UB[users_E, 1]] = 2
    bands_E = np.empty(len(order_E), dtype=np.int64)
    bands_E[order_E] = sorted_bands_E
    return _ordered(interactions, bands_E, moments_E)


def _ordered(interactions: pa.Table, bands_E: Moments, moments_E: Moments | None) -> Ordered:
    if interactions.num_rows and not {0, 1} <= set(bands_E.tolist()):
        num_train, num_valid = int((bands_E == 0).sum()), int((bands_E == 1).sum())
        raise ValueError(
            f"{num_train} events are train and {num_valid} valid; both need some: the graph learns "
            "from train, the ranker from valid"
        )
    has_order = moments_E is not None
    if moments_E is None:
        moments_E = np.zeros(len(bands_E), dtype=np.int64)
    ticks_E = np.zeros(len(bands_E), dtype=np.int64)
    ends = [0]
    for band in range(len(BANDS)):
        distinct, place_of = np.unique(moments_E[bands_E == band], return_inverse=True)
        ticks_E[bands_E == band] = ends[-1] + place_of
        ends.append(ends[-1] + len(distinct))
    return Ordered(
        interactions=_on_the_clock(interactions, bands_E, ticks_E),
        graph_until=START + ends[1] * TICK,
        cut=START + ends[2] * TICK,
        has_order=has_order,
    )


def _on_the_clock(interactions: pa.Table, bands_E: Moments, ticks_E: Moments) -> pa.Table:
    microseconds = TICK // timedelta(microseconds=1)
    bands = pa.DictionaryArray.from_arrays(pa.array(bands_E, pa.int32()), pa.array(BANDS))
    columns = {
        "timestamp": pa.array(ticks_E * microseconds, pa.int64()).cast(TIME),
        "split": bands.cast(pa.string()),
    }
    table = interactions
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            table = table.append_column(name, values)
        else:
            table = table.set_column(place, name, values)
    return table.take(pa.array(_order(table["user_id"], ticks_E)))


def _order(user_ids: pa.ChunkedArray, moments_E: Moments) -> Moments:
    """The rows by user id, then by moment; ties as they come."""
    keys = pa.table({"user_id": user_ids.cast(pa.string()), "moment": moments_E})
    by_user = [("user_id", "ascending"), ("moment", "ascending")]
    order_E: Moments = pc.sort_indices(keys, sort_keys=by_user).to_numpy().astype(np.int64)
    return order_E


def _moments(interactions: pa.Table) -> Moments | None:
    """A number for each event that rises with time, or with position; None where it has neither."""
    num_events = interactions.num_rows
    for name in ("timestamp", "position"):
        values = interactions[name]
        if values.null_count == 0:
            numbers = values.cast(TIME) if name == "timestamp" else values
            found: Moments = numbers.cast(pa.int64()).to_numpy()
            return found
    counts = {
        name: num_events - interactions[name].null_count for name in ("timestamp", "position")
    }
    if any(counts.values()):
        raise ValueError(
            f"of {num_events} interactions {counts['timestamp']} have a timestamp and "
            f"{counts['position']} a position; a split needs one of the two of all events, or none "
            "at all: complete them, or leave the others out"
        )
    return None


def _codes(interactions: pa.Table, order_E: Moments) -> tuple[Moments, Moments]:
    """Each event's user, and its (user, item), as numbers; in the order given."""
    users_E, items_E = (
        pc.dictionary_encode(interactions[name].cast(pa.string()).combine_chunks())
        .indices.to_numpy()
        .astype(np.int64)[order_E]
        for name in ("user_id", "item_id")
    )
    return users_E, users_E * (int(items_E.max(initial=0)) + 1) + items_E


def _is_choice(
    interactions: pa.Table, behaviors: Collection[str] | None, min_weight: float | None
) -> NDArray[np.bool_]:
    is_choice_E = np.ones(interactions.num_rows, dtype=bool)
    if behaviors is not None:
        wanted = pa.array(sorted(behaviors), pa.string())
        is_in = pc.is_in(interactions["behavior"].cast(pa.string()), value_set=wanted)
        is_choice_E &= is_in.to_numpy()
    if min_weight is not None:
        weights_E = pc.fill_null(interactions["weight"], float("-inf")).to_numpy()
        is_choice_E &= weights_E >= min_weight
    return is_choice_E
