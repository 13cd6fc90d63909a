"""Interactions, friends and item edges in, the nodes and relations of one graph before a cut out.

Nodes are the users and items with an interaction. A relation is one kind of edge: a behavior
between users and items, friends between users, item edges between items; whatever ends in no node
is left out. Edges have no direction, and each pair is held once.

Only what came strictly before `until` makes an edge. An interaction without a time makes none, once
there is a cut, for nothing shows that it came before; a friend or item edge without a time is taken
to have always been.

Shape legend: U users, I items, E pairs of a user and an item, P pairs of one relation.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.graph_config import GraphConfig

MAX_BEHAVIORS = 64  # relations of their own; a free text as behavior would be one for each event
OF_SPECTRAL = (
    "behavior_weights",
    "min_weight",
    "seed",
    "spectral_dim",
    "spectral_exponents",
    "spectral_popularity",
    "spectral_ridge",
)
"""What the encoder spectral looks at."""
FRIENDS, ITEM_EDGES, STRONGEST = "friends", "item_edges", "strongest behavior"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One kind of undirected edge; nodes are users from 0, then items from U. By left, right."""

    name: str
    left_P: NDArray[np.int64]
    right_P: NDArray[np.int64]
    weights_P: NDArray[np.float32]
    share: float
    """How much its messages weigh beside those of the other relations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Each pair of a user and an item once, by user and then item, and the relations."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users_E: NDArray[np.int64]
    items_E: NDArray[np.int64]
    weights_E: NDArray[np.float32]
    """Of the pair's strongest behavior: what it counts in the loss."""
    relations: tuple[Relation, ...]

    @property
    def num_nodes(self) -> int:
        """Users and items together."""
        return len(self.user_ids) + len(self.item_ids)


def read_edges(
    interactions: pa.Table,
    *,
    until: datetime | None,
    config: GraphConfig,
    friends: pa.Table | None = None,
    item_edges: pa.Table | None = None,
) -> Edges:
    """The graph of what was there before `until`.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally weight.
        until: The training cut, in UTC; None takes everything.
        config: Says what weighs how much.
        friends: Columns user_id, friend_id and timestamp.
        item_edges: Columns item_id, other_item_id, weight and timestamp.

    Raises:
        ValueError: no interaction is left, a cut without a time zone, or too many behaviors.
    """
    if until is not None and until.tzinfo is None:
        raise ValueError(f"until needs a time zone (UTC), got {until}")
    events, weights = _events(interactions, until=until, config=config)
    user_ids, users = _codes(events["user_id"])
    item_ids, items = _codes(events["item_id"])
    keys_E, pair_of_event = np.unique(users * len(item_ids) + items, return_inverse=True)
    weights_E = np.zeros(len(keys_E), dtype=np.float32)
    np.maximum.at(weights_E, pair_of_event, weights)
    users_E, items_E = np.divmod(keys_E, len(item_ids))
    whole = Relation(
        name=STRONGEST,
        left_P=users_E,
        right_P=items_E + len(user_ids),
        weights_P=weights_E,
        share=1.0,
    )
    relations = [whole]
    if config.mixing != "strongest":
        relations = _by_behavior(whole, events["behavior"], pair_of_event, config)
    if friends is not None and config.friend_weight > 0:
        known = _before(friends, until)
        pairs = (_found(known["user_id"], user_ids), _found(known["friend_id"], user_ids))
        relations.append(_alike(FRIENDS, pairs, None, config.friend_weight))
    if item_edges is not None and config.item_edge_weight > 0:
        known = _before(item_edges, until)
        pairs = (_found(known["item_id"], item_ids), _found(known["other_item_id"], item_ids))
        pairs = (_shifted(pairs[0], len(user_ids)), _shifted(pairs[1], len(user_ids)))
        relations.append(_alike(ITEM_EDGES, pairs, known["weight"], config.item_edge_weight))
    return Edges(
        user_ids=user_ids.to_pylist(),
        item_ids=item_ids.to_pylist(),
        users_E=users_E,
        items_E=items_E,
        weights_E=weights_E,
        relations=tuple(one for one in relations if len(one.left_P)),
    )


def revision(
    edges: Edges, *, until: datetime | None, config: GraphConfig, encoder: str = "lightgcn"
) -> str:
    """16 hex digits that change whenever anything does that the trained vectors depend on."""
    known = {**asdict(config), "behavior_weights": dict(config.behavior_weights or {})}
    if encoder == "spectral":
        unused = set(known) - set(OF_SPECTRAL)
    else:
        is_alone = config.spectral_share == 0
        unused = {one for one in known if is_alone and one.startswith("spectral_")}
    facts = {
        "config": {
            name: one
            for name, one in known.items()
            if not name.startswith("impute") and name not in unused
        },
        "until": until.isoformat() if until else None,
        "users": edges.user_ids,
        "items": edges.item_ids,
        "relations": [[one.name, one.share, len(one.left_P)] for one in edges.relations],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for column in (edges.users_E, edges.items_E, edges.weights_E):
        digest.update(column.tobytes())
    for one in edges.relations:
        for column in (one.left_P, one.right_P, one.weights_P):
            digest.update(column.tobytes())
    return digest.hexdigest()[:16]


def _events(
    interactions: pa.Table, *, until: datetime | None, config: GraphConfig
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The events that make edges, and what each one's behavior weighs."""
    events = interactions
    if until is not None:
        events = events.filter(pc.less(events["timestamp"], _cut(events, until)))
    if config.min_weight is not None and "weight" in events.column_names:
        is_enough = pc.greater_equal(events["weight"], config.min_weight)
        events = events.filter(pc.fill_null(is_enough, True))
    weights = _behavior_weights(events["behavior"], config.behavior_weights or {})
    events, weights = events.filter(pa.array(weights > 0)), weights[weights > 0]
    if events.num_rows == 0:
        raise ValueError(
            f"no interaction is left to train the graph on: of {interactions.num_rows}, none "
            f"is before until={until} with min_weight={config.min_weight} and a behavior that "
            f"weighs more than 0; choose a later cut or looser limits"
        )
    return events, weights


def _behavior_weights(
    behaviors: pa.ChunkedArray, given: Mapping[str, float]
) -> NDArray[np.float32]:
    named, codes = _codes(behaviors)
    weights = np.array([given.get(name, 1.0) for name in named.to_pylist()], dtype=np.float32)
    return weights[codes]


def _by_behavior(
    whole: Relation,
    behaviors: pa.ChunkedArray,
    pair_of_event: NDArray[np.int64],
    config: GraphConfig,
) -> list[Relation]:
    """The pairs of each behavior, by its name. Doing it twice is one edge, as ever."""
    named, codes = _codes(behaviors)
    if len(named) > MAX_BEHAVIORS:
        raise ValueError(
            f"{len(named)} behaviors cannot be relations of their own, at most {MAX_BEHAVIORS}: "
            f"give the useless ones a weight of 0 in behavior_weights, or choose mixing "
            f"'strongest'"
        )
    given = config.behavior_weights or {}
    relations = []
    for code, name in enumerate(named.to_pylist()):
        pairs = np.unique(pair_of_event[codes == code])
        relations.append(
            Relation(
                name=name,
                left_P=whole.left_P[pairs],
                right_P=whole.right_P[pairs],
                weights_P=np.ones(len(pairs), dtype=np.float32),
                share=float(given.get(name, 1.0)),
            )
        )
    return relations


def _alike(
    name: str,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    weights: pa.ChunkedArray | None,
    share: float,
) -> Relation:
    """A relation between nodes of one kind. -1 is no node; a pair given twice weighs its most."""
    is_known = (ends[0] >= 0) & (ends[1] >= 0) & (ends[0] != ends[1])
    left, right = np.minimum(*ends)[is_known], np.maximum(*ends)[is_known]
    stride = int(right.max(initial=0)) + 1
    keys_P, pair_of_row = np.unique(left * stride + right, return_inverse=True)
    weights_P = np.zeros(len(keys_P), dtype=np.float32)
    given = np.ones(len(is_known), dtype=np.float32)
    if weights is not None:
        given = pc.fill_null(weights, 1.0).to_numpy().astype(np.float32)
    np.maximum.at(weights_P, pair_of_row, given[is_known])
    return Relation(
        name=name,
        left_P=keys_P // stride,
        right_P=keys_P % stride,
        weights_P=weights_P,
        share=share,
    )


def _before(edges: pa.Table, until: datetime | None) -> pa.Table:
    """Rows strictly before the cut, and those without a time."""
    if until is None:
        return edges
    is_before = pc.less(edges["timestamp"], _cut(edges, until))
    return edges.filter(pc.fill_null(is_before, True))


def _cut(table: pa.Table, until: datetime) -> pa.Scalar:
    return pa.scalar(until, type=table.schema.field("timestamp").type)


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct texts, ordered by code point, and each row's place among them."""
    texts = column.cast(pa.large_string())  # of more than 2 GB too
    distinct = pc.unique(texts)
    distinct = distinct.take(pc.sort_indices(distinct))
    return distinct, pc.index_in(texts, value_set=distinct).to_numpy().astype(np.int64)


def _found(column: pa.ChunkedArray, ids: pa.Array) -> NDArray[np.int64]:
    """Each row's place among the ids; -1 where it has none."""
    places = pc.index_in(column.cast(pa.large_string()), value_set=ids)
    return pc.fill_null(places, -1).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _shifted(nodes: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    return np.where(nodes >= 0, nodes + by, -1)
