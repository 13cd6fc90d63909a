"""Which edges a graph has before a cut, and what each of them weighs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedders.catalog_edges import FRIENDS_SCHEMA, ITEM_EDGES_SCHEMA
from embedders.graph_config import GraphConfig
from embedders.graph_edges import Edges, Relation, read_edges, revision

CUT = datetime(2024, 6, 1, tzinfo=UTC)
BEFORE, AFTER = CUT - timedelta(days=1), CUT + timedelta(days=1)
EVENTS = [
    ("ann", "x", "view", BEFORE),
    ("ann", "x", "buy", BEFORE),
    ("ann", "x", "view", BEFORE),
    ("bob", "y", "view", BEFORE),
    ("eve", "x", "buy", BEFORE),
    ("eve", "z", "buy", AFTER),
]


def events(rows: list[tuple[str, str, str, Any]] = EVENTS) -> pa.Table:
    schema = pa.schema(
        {
            "user_id": pa.string(),
            "item_id": pa.string(),
            "behavior": pa.string(),
            "timestamp": pa.timestamp("us", "UTC"),
        }
    )
    names = schema.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema)


def friends(*rows: tuple[str, str, datetime | None]) -> pa.Table:
    names = FRIENDS_SCHEMA.names
    listed = [dict(zip(names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(listed, FRIENDS_SCHEMA)


def item_edges(*rows: tuple[str, str, float | None, datetime | None]) -> pa.Table:
    names = ITEM_EDGES_SCHEMA.names
    listed = [dict(zip(names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(listed, ITEM_EDGES_SCHEMA)


def read(config: GraphConfig, **tables: pa.Table) -> Edges:
    return read_edges(tables.pop("events", events()), until=CUT, config=config, **tables)


def pairs(edges: Edges, relation: Relation) -> list[tuple[str, str, float]]:
    nodes = [*edges.user_ids, *edges.item_ids]
    ends = zip(relation.left_P, relation.right_P, relation.weights_P, strict=True)
    return [(nodes[left], nodes[right], float(weight)) for left, right, weight in ends]


def test_each_pair_is_there_once_as_its_strongest_behavior() -> None:
    edges = read(GraphConfig(behavior_weights={"view": 0.5}))
    (strongest,) = edges.relations
    assert pairs(edges, strongest) == [("ann", "x", 1.0), ("bob", "y", 0.5), ("eve", "x", 1.0)]
    assert edges.weights_E.tolist() == [1.0, 0.5, 1.0]
    assert strongest.share == 1


@pytest.mark.parametrize("mixing", ["given", "learned"])
def test_each_behavior_is_a_relation_of_its_own(mixing: Any) -> None:
    edges = read(GraphConfig(behavior_weights={"view": 0.5}, mixing=mixing))
    buy, view = edges.relations
    assert (buy.name, buy.share, view.name, view.share) == ("buy", 1.0, "view", 0.5)
    assert pairs(edges, buy) == [("ann", "x", 1.0), ("eve", "x", 1.0)]
    assert pairs(edges, view) == [("ann", "x", 1.0), ("bob", "y", 1.0)]
    assert edges.weights_E.tolist() == [1.0, 0.5, 1.0]


def test_friends_are_undirected_counted_once_and_end_in_users_of_the_graph() -> None:
    known = friends(
        ("ann", "bob", None), ("bob", "ann", BEFORE), ("ann", "eve", CUT), ("ann", "zoe", None)
    )
    edges = read(GraphConfig(friend_weight=0.3), friends=known)
    relation = edges.relations[1]
    assert (relation.name, relation.share) == ("friends", 0.3)
    assert pairs(edges, relation) == [("ann", "bob", 1.0)]


def test_an_item_edge_weighs_its_most_and_one_without_a_weight_weighs_one() -> None:
    known = item_edges(
        ("x", "y", 0.5, BEFORE), ("y", "x", 2.0, None), ("x", "y", 9.0, CUT), ("x", "z", 1.0, None)
    )
    edges = read(GraphConfig(item_edge_weight=0.2), item_edges=known)
    relation = edges.relations[1]
    assert (relation.name, relation.share) == ("item_edges", 0.2)
    assert pairs(edges, relation) == [("x", "y", 2.0)]
    plain = read(GraphConfig(item_edge_weight=1.0), item_edges=item_edges(("y", "x", None, None)))
    assert pairs(plain, plain.relations[1]) == [("x", "y", 1.0)]


def test_without_a_cut_every_edge_counts() -> None:
    edges = read_edges(
        events(),
        until=None,
        config=GraphConfig(friend_weight=1.0),
        friends=friends(("ann", "eve", AFTER)),
    )
    assert len(edges.users_E) == 4
    assert pairs(edges, edges.relations[1]) == [("ann", "eve", 1.0)]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_edges_of_no_weight_and_edges_of_nobody_are_no_relation(weight: float) -> None:
    nobody = friends(("zoe", "tom", None)) if weight else friends(("ann", "bob", None))
    assert len(read(GraphConfig(friend_weight=weight), friends=nobody).relations) == 1


def test_ids_are_ordered_by_code_point() -> None:
    rows = [(user, "x", "view", BEFORE) for user in ("ä", "b", "B", "a", "10", "9")]
    assert read(GraphConfig(), events=events(rows)).user_ids == ["10", "9", "B", "a", "b", "ä"]


def test_too_many_behaviors_are_refused_with_what_to_do() -> None:
    rows = [("ann", "x", f"saw ad {n}", BEFORE) for n in range(65)]
    assert read(GraphConfig(), events=events(rows)).relations
    with pytest.raises(ValueError, match=r"65 behaviors .* at most 64: .*'strongest'"):
        read(GraphConfig(mixing="given"), events=events(rows))


def test_whatever_the_vectors_depend_on_is_in_the_revision() -> None:
    known = friends(("ann", "bob", None))
    similar = item_edges(("x", "y", 0.5, None))

    def made(config: GraphConfig, until: datetime | None = CUT, **tables: pa.Table) -> str:
        edges = read_edges(tables.pop("events", events()), until=until, config=config, **tables)
        return revision(edges, until=until, config=config)

    plain = GraphConfig()
    found = [
        made(plain),
        made(plain, until=CUT - timedelta(minutes=1)),
        made(plain, events=events([*EVENTS, ("ann", "y", "view", BEFORE)])),
        made(GraphConfig(mixing="given")),
        made(GraphConfig(mixing="learned")),
        made(GraphConfig(loss="bpr")),
        made(GraphConfig(degree_exponents=(0.6, 0.4))),
        made(GraphConfig(scale_layers=True)),
        made(GraphConfig(own_share=0.2)),
        made(GraphConfig(friend_weight=0.7), friends=known),
        made(GraphConfig(friend_weight=0.7)),
        made(GraphConfig(friend_weight=0.7), friends=friends(("ann", "eve", None))),
        made(GraphConfig(item_edge_weight=0.5), item_edges=similar),
        made(GraphConfig(item_edge_weight=0.5), item_edges=item_edges(("x", "y", 0.6, None))),
    ]
    assert len(set(found)) == len(found)


def test_what_the_vectors_do_not_depend_on_is_not_in_the_revision() -> None:
    def made(config: GraphConfig, rows: list[tuple[str, str, str, Any]] = EVENTS) -> str:
        edges = read_edges(events(rows), until=CUT, config=config, friends=friends())
        return revision(edges, until=CUT, config=config)

    plain = made(GraphConfig())
    assert plain == made(GraphConfig(), EVENTS[::-1])
    assert plain == made(GraphConfig(impute=False, impute_neighbors=3))
    assert plain == made(GraphConfig(), [*EVENTS, ("ann", "x", "view", AFTER)])


def test_a_large_catalogs_ids_are_told_apart_without_a_list_of_texts() -> None:
    """Chunks of a dictionary type, as parquet readers give them."""
    table = events()
    chunked = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    encoded = chunked.set_column(0, "user_id", chunked["user_id"].dictionary_encode())
    np.testing.assert_array_equal(
        read(GraphConfig(), events=encoded).users_E, read(GraphConfig()).users_E
    )
