"""Interactions in, who chose what out: most of it to learn from, each user's last to stop by.

Items are the whole catalog's, so that those nobody chose can be recommended by what they show.
Only what came strictly before `until` counts. The last choice of each user with three or more is
kept for validation: no cut in time for everybody, because tuning asks which vectors fit a user's
next choice, and raters who come and leave in one sitting would stand on one side of such a cut.

Shape legend: U users, I items, E pairs to learn from, V pairs to stop by.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.graph_edges import STRONGEST, Edges, Relation

FEWEST = 3  # choices of whoever gives one up
ITSELF = "itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Distinct pairs of a user and an item, by user and then item."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    """Of all items, chosen or not, rising."""
    users_E: NDArray[np.int64]
    items_E: NDArray[np.int64]
    users_V: NDArray[np.int64]
    """Rising; whoever has several is asked for each."""
    items_V: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever anything here does."""
        digest = hashlib.sha256("\n".join([*self.user_ids, "", *self.item_ids]).encode())
        for column in (self.users_E, self.items_E, self.users_V, self.items_V):
            digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
            digest.update(b"|")
        return digest.hexdigest()[:16]

    @property
    def num_users_of_items(self) -> NDArray[np.int64]:
        """By how many each item was chosen, validation left out, [I]."""
        return np.bincount(self.items_E, minlength=len(self.item_ids))

    @property
    def edges(self) -> Edges:
        """The graph of the pairs to learn from. Who has none is their own only neighbor, so that
        smoothing leaves them as they are."""
        num_users, num_nodes = len(self.user_ids), len(self.user_ids) + len(self.item_ids)
        ones_E = np.ones(len(self.users_E), dtype=np.float32)
        relations = [
            Relation(
                name=STRONGEST,
                left_P=self.users_E,
                right_P=self.items_E + num_users,
                weights_P=ones_E,
                share=1.0,
            )
        ]
        is_alone_N = np.ones(num_nodes, dtype=bool)
        is_alone_N[self.users_E] = is_alone_N[self.items_E + num_users] = False
        if is_alone_N.any():
            alone = np.flatnonzero(is_alone_N)
            weights_P = np.ones(len(alone), dtype=np.float32)
            relations.append(
                Relation(name=ITSELF, left_P=alone, right_P=alone, weights_P=weights_P, share=1.0)
            )
        return Edges(
            user_ids=self.user_ids,
            item_ids=self.item_ids,
            users_E=self.users_E,
            items_E=self.items_E,
            weights_E=ones_E,
            relations=tuple(relations),
        )


def read_choices(
    interactions: pa.Table,
    *,
    until: datetime | None,
    item_ids: Sequence[str],
    min_weight: float | None = None,
) -> Choices:
    """What was chosen before `until`, each user's last choice apart.

    Args:
        interactions: Columns user_id, item_id, timestamp and, optionally, position and weight.
        until: In UTC; None takes everything, also what has no time.
        item_ids: Of all items. Events of others are passed over.
        min_weight: Events whose weight (a rating) is lower are no choices; those without one are.

    Returns:
        The pairs; of events of one moment and position the larger item id counts as later.

    Raises:
        ValueError: nothing is left, or a cut without a time zone.
    """
    if until is not None and until.tzinfo is None:
        raise ValueError(f"until needs a time zone (UTC), got {until}")
    events = interactions
    if until is not None:
        moment = pa.scalar(until, type=events.schema.field("timestamp").type)
        events = events.filter(pc.fill_null(pc.less(events["timestamp"], moment), False))
    if min_weight is not None and "weight" in events.column_names:
        events = events.filter(pc.fill_null(pc.greater_equal(events["weight"], min_weight), True))
    rising = pa.array(sorted(set(item_ids)), pa.string())
    events = events.filter(pc.is_in(events["item_id"].cast(pa.string()), value_set=rising))
    if events.num_rows == 0:
        raise ValueError(
            f"no choice is left to tune by: of {interactions.num_rows} interactions none is with "
            f"a known item, before until={until} and of min_weight={min_weight}"
        )
    keys = [("user_id", "ascending")]
    keys += [
        (name, "ascending") for name in ("timestamp", "position") if name in events.schema.names
    ]
    events = events.sort_by([*keys, ("item_id", "ascending")])
    user_ids = pc.unique(events["user_id"].cast(pa.string()))
    users = pc.index_in(events["user_id"].cast(pa.string()), value_set=user_ids)
    items = pc.index_in(events["item_id"].cast(pa.string()), value_set=rising)
    return divided(
        users.to_numpy().astype(np.int64),
        items.to_numpy().astype(np.int64),
        user_ids=user_ids.to_pylist(),
        item_ids=rising.to_pylist(),
    )


def divided(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    *,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
) -> Choices:
    """Events by user, oldest first, with the last first-time choice of each user set apart."""
    keys, first = np.unique(users * len(item_ids) + items, return_index=True)
    order = np.argsort(first, kind="stable")  # each pair where it first happened: by user and time
    users_P, items_P = np.divmod(keys[order], len(item_ids))
    counts_U = np.bincount(users_P, minlength=len(user_ids))
    last_U = np.cumsum(counts_U) - 1
    is_kept = np.zeros(len(users_P), dtype=bool)
    is_kept[last_U[counts_U >= FEWEST]] = True
    users_E, items_E = np.divmod(np.sort(keys[order][~is_kept]), len(item_ids))
    return Choices(
        user_ids=user_ids,
        item_ids=item_ids,
        users_E=users_E,
        items_E=items_E,
        users_V=users_P[is_kept],
        items_V=items_P[is_kept],
    )
