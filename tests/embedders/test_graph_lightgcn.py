"""LightGCN on small worlds whose communities are planted, and on MovieLens for its speed."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from embedders.base import BadContent
from embedders.catalog_edges import FRIENDS_SCHEMA, ITEM_EDGES_SCHEMA
from embedders.graph_config import GraphConfig
from embedders.graph_embedder import GraphEmbedder, lifted
from embedders.graph_lightgcn import fit
from embedders.items import Item, Modality

CUT = datetime(2024, 6, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "behavior": pa.string(),
        "weight": pa.float32(),
        "timestamp": pa.timestamp("us", "UTC"),
        "position": pa.int32(),
        "split": pa.string(),
    }
)
SMALL = GraphConfig(dim=16, epochs=15, batch_size=512, loss="bpr")


def event(user_id: str, item_id: str, **columns: Any) -> dict[str, Any]:
    known = {"behavior": "view", "timestamp": CUT - timedelta(days=1)}
    return {"user_id": user_id, "item_id": item_id, **known, **columns}


def table(events: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(events, schema=SCHEMA)


def planted_events(*, num_users: int, num_items: int, per_user: int) -> list[dict[str, Any]]:
    """Even users touch even items, odd users odd ones."""
    random = np.random.default_rng(1)
    events = []
    for user in range(num_users):
        for item in random.choice(num_items // 2, per_user, replace=False) * 2 + user % 2:
            events.append(event(f"u{user:03}", f"i{item:03}"))
    return events


EVENTS = planted_events(num_users=40, num_items=60, per_user=10)


def community(ids: Any) -> np.ndarray:
    return np.array([int(one[1:]) % 2 for one in ids])


def items_of(embedder: GraphEmbedder, item_ids: list[str]) -> np.ndarray:
    items = [Item(item_id=item_id, title="") for item_id in item_ids]
    embeddings, rejects = embedder.embed(items)
    assert not rejects
    return embeddings.vectors_ND


def test_two_planted_communities_separate() -> None:
    embedder = fit(table(EVENTS), until=CUT, config=SMALL)
    users = embedder.users()
    item_ids = sorted({one["item_id"] for one in EVENTS})
    cosines_UI = users.vectors_ND @ items_of(embedder, item_ids).T
    is_same_UI = community(users.item_ids)[:, None] == community(item_ids)[None, :]
    assert cosines_UI[is_same_UI].mean() > cosines_UI[~is_same_UI].mean() + 0.8
    nearest_UK = np.argsort(-cosines_UI, axis=1)[:, :20]
    assert np.take_along_axis(is_same_UI, nearest_UK, axis=1).mean() > 0.99


def test_events_from_the_cut_on_change_no_bit() -> None:
    later = [event("u000", "i001", timestamp=CUT), event("new", "new", timestamp=CUT)]
    before = fit(table(EVENTS), until=CUT, config=SMALL)
    after = fit(table(later + EVENTS), until=CUT, config=SMALL)
    assert before.space == after.space
    assert before.users().item_ids == after.users().item_ids
    np.testing.assert_array_equal(before.users().vectors_ND, after.users().vectors_ND)
    item_ids = sorted({one["item_id"] for one in EVENTS})
    np.testing.assert_array_equal(items_of(before, item_ids), items_of(after, item_ids))


def test_equal_input_gives_bit_equal_vectors_in_whatever_order_events_come() -> None:
    first = fit(table(EVENTS), until=CUT, config=SMALL)
    torch.manual_seed(99)
    second = fit(table(EVENTS[::-1]), until=CUT, config=SMALL)
    np.testing.assert_array_equal(first.users().vectors_ND, second.users().vectors_ND)
    assert first.space.space_id == second.space.space_id


MIXINGS = ("strongest", "given", "learned")


def same_vectors(one: GraphEmbedder, other: GraphEmbedder) -> bool:
    return np.array_equal(one.users().vectors_ND, other.users().vectors_ND) and np.array_equal(
        one.items().vectors_ND, other.items().vectors_ND
    )


@pytest.mark.parametrize("mixing", MIXINGS[1:])
def test_of_one_behavior_every_mixing_is_plain_lightgcn_to_the_bit(mixing: Any) -> None:
    plain = fit(table(EVENTS), until=CUT, config=SMALL)
    mixed = fit(table(EVENTS), until=CUT, config=replace(SMALL, mixing=mixing))
    assert same_vectors(plain, mixed)
    assert plain.space.revision != mixed.space.revision


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("mixing", MIXINGS)
def test_communities_separate_and_equal_input_is_bit_equal_however_it_is_trained(
    mixing: Any, loss: Any
) -> None:
    buys = [{**one, "behavior": "buy"} for one in EVENTS[::3]]
    config = replace(
        SMALL, mixing=mixing, loss=loss, num_negatives=16, behavior_weights={"view": 0.2}
    )
    first = fit(table(EVENTS + buys), until=CUT, config=config)
    assert same_vectors(first, fit(table(buys + EVENTS), until=CUT, config=config))
    cosines_UI = first.users().vectors_ND @ first.items().vectors_ND.T
    is_same_UI = community(first.users().item_ids)[:, None] == community(first.items().item_ids)
    assert cosines_UI[is_same_UI].mean() > cosines_UI[~is_same_UI].mean() + 0.5


def test_the_variant_of_lightgcn_plus_plus_separates_communities() -> None:
    config = replace(SMALL, degree_exponents=(0.6, -0.1), scale_layers=True, own_share=0.2)
    found = fit(table(EVENTS), until=CUT, config=config)
    cosines_UI = found.users().vectors_ND @ found.items().vectors_ND.T
    is_same_UI = community(found.users().item_ids)[:, None] == community(found.items().item_ids)
    assert cosines_UI[is_same_UI].mean() > cosines_UI[~is_same_UI].mean() + 0.5


def test_lifted_items_keep_the_order_of_inner_products() -> None:
    vectors = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    higher = lifted(vectors, num_users=10)
    lengths = np.linalg.norm(higher[10:], axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
    np.testing.assert_allclose(higher[:10] @ higher[10:].T, vectors[:10] @ vectors[10:].T)


def test_trained_by_inner_products_the_space_still_compares_by_cosines() -> None:
    config = replace(SMALL, compare="dot", loss="softmax", num_negatives=16, temperature=1.0)
    found = fit(table(EVENTS), until=CUT, config=config)
    assert found.space.dim == SMALL.dim
    assert found.space.is_normalized
    cosines_UI = found.users().vectors_ND @ found.items().vectors_ND.T
    is_same_UI = community(found.users().item_ids)[:, None] == community(found.items().item_ids)
    nearest_UK = np.argsort(-cosines_UI, axis=1)[:, :20]
    assert np.take_along_axis(is_same_UI, nearest_UK, axis=1).mean() > 0.95


def friends(*rows: tuple[str, str, datetime | None]) -> pa.Table:
    listed = [dict(zip(FRIENDS_SCHEMA.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(listed, FRIENDS_SCHEMA)


def test_friends_draw_a_user_to_what_they_like() -> None:
    """A newcomer saw one item of each kind; all their friends like even ones, or odd ones."""
    events = [*EVENTS, event("new", "i000"), event("new", "i001")]
    nearer = []
    for parity in (0, 1):
        known = friends(*((f"u{user:03}", "new", None) for user in range(parity, 40, 2)))
        config = replace(SMALL, friend_weight=1.0)
        found = fit(table(events), until=CUT, config=config, friends=known)
        users = found.users()
        cosines_I = found.items().vectors_ND @ users.vectors_ND[users.item_ids.index("new")]
        is_odd_I = community(found.items().item_ids) == 1
        nearer.append(cosines_I[is_odd_I].mean() > cosines_I[~is_odd_I].mean())
    assert nearer == [False, True]


def test_item_edges_draw_an_item_to_its_like() -> None:
    """One user of each kind saw `torn`, which belongs to even items, or to odd ones."""
    events = [*EVENTS, event("u000", "torn"), event("u001", "torn")]
    nearer = []
    for parity in (0, 1):
        rows = [("torn", f"i{item:03}", None, None) for item in range(parity, 60, 2)]
        listed = [dict(zip(ITEM_EDGES_SCHEMA.names, row, strict=True)) for row in rows]
        found = fit(
            table(events),
            until=CUT,
            config=replace(SMALL, item_edge_weight=1.0),
            item_edges=pa.Table.from_pylist(listed, ITEM_EDGES_SCHEMA),
        )
        users = found.users()
        cosines_U = users.vectors_ND @ items_of(found, ["torn"])[0]
        is_odd_U = community(users.item_ids) == 1
        nearer.append(cosines_U[is_odd_U].mean() > cosines_U[~is_odd_U].mean())
    assert nearer == [False, True]


def test_friends_from_the_cut_on_change_no_bit() -> None:
    config = replace(SMALL, friend_weight=1.0)
    early = friends(("u000", "u002", CUT - timedelta(days=1)))
    later = friends(
        ("u000", "u001", CUT),
        ("u000", "u002", CUT - timedelta(days=1)),
        ("u003", "u004", CUT + timedelta(days=1)),
    )
    before = fit(table(EVENTS), until=CUT, config=config, friends=early)
    after = fit(table(EVENTS), until=CUT, config=config, friends=later)
    assert before.space == after.space
    assert same_vectors(before, after)


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(table(EVENTS), until=CUT, config=SMALL)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"loss": "softmax"},
        {"epochs": 16},
        {"behavior_weights": {"view": 2.0}},
        {"min_weight": 1.0},
    ],
)
def test_another_configuration_is_another_revision(change: dict[str, Any]) -> None:
    plain = fit(table(EVENTS), until=CUT, config=SMALL)
    config = replace(SMALL, **change)
    assert fit(table(EVENTS), until=CUT, config=config).space.revision != plain.space.revision


def test_one_more_edge_or_another_cut_is_another_revision() -> None:
    plain = fit(table(EVENTS), until=CUT, config=SMALL).space.revision
    later_cut = fit(table(EVENTS), until=CUT + timedelta(days=1), config=SMALL)
    one_more = fit(table([*EVENTS, event("u000", "i001")]), until=CUT, config=SMALL)
    assert len({plain, later_cut.space.revision, one_more.space.revision}) == 3


def test_the_embedder_speaks_of_its_space_and_its_cut() -> None:
    embedder = fit(table(EVENTS), until=CUT, config=SMALL)
    assert embedder.space.modality is Modality.GRAPH
    assert embedder.space.encoder == "lightgcn"
    assert embedder.space.is_normalized
    assert embedder.users().space == embedder.space
    assert embedder.until == CUT


def test_an_item_without_edges_is_neither_embedded_nor_rejected() -> None:
    embedder = fit(table(EVENTS), until=CUT, config=SMALL)
    known, new = Item(item_id="i000", title=""), Item(item_id="new", title="")
    assert embedder.fingerprint(known) == embedder.space.revision
    assert embedder.fingerprint(new) is None
    embeddings, rejects = embedder.embed([new, known])
    assert list(embeddings.item_ids) == ["i000"]
    assert rejects == []
    with pytest.raises(BadContent, match="'new' has no interaction before"):
        embedder.load(new)


def test_an_empty_past_is_refused_with_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"no interaction is left.*later cut"):
        fit(table(EVENTS), until=CUT - timedelta(days=1), config=SMALL)


def test_events_without_a_time_count_only_where_there_is_no_cut() -> None:
    events = [*EVENTS, event("u000", "untimed", timestamp=None)]
    untimed = Item(item_id="untimed", title="")
    assert fit(table(events), until=CUT, config=SMALL).fingerprint(untimed) is None
    assert fit(table(events), until=None, config=SMALL).fingerprint(untimed) is not None


def test_low_ratings_and_behaviors_of_no_weight_make_no_edge() -> None:
    events = [
        *EVENTS,
        event("u000", "low", weight=2.0),
        event("u000", "high", weight=4.0),
        event("u000", "hidden", behavior="impression"),
    ]
    config = GraphConfig(
        dim=16, epochs=2, min_weight=3.0, behavior_weights={"impression": 0.0, "view": 1.0}
    )
    embedder = fit(table(events), until=CUT, config=config)
    items = [Item(item_id=item_id, title="") for item_id in ("low", "high", "hidden")]
    assert [embedder.fingerprint(item) is not None for item in items] == [False, True, False]


def test_a_heavier_behavior_pulls_an_item_nearer() -> None:
    torn = [
        event(f"u{user:03}", "torn", behavior="buy" if user % 2 else "view") for user in range(40)
    ]
    for heavy, light in (("buy", "view"), ("view", "buy")):
        config = GraphConfig(
            dim=16, epochs=15, batch_size=512, behavior_weights={heavy: 1.0, light: 0.1}
        )
        embedder = fit(table(EVENTS + torn), until=CUT, config=config)
        users = embedder.users()
        cosines_U = users.vectors_ND @ items_of(embedder, ["torn"])[0]
        is_odd_U = community(users.item_ids) == 1
        odd, even = cosines_U[is_odd_U].mean(), cosines_U[~is_odd_U].mean()
        assert (odd > even) == (heavy == "buy")


def test_users_who_know_every_item_are_still_placed() -> None:
    events = [event(user, item) for user in "ab" for item in "xy"]
    embedder = fit(table(events), until=CUT, config=GraphConfig(dim=4, epochs=2))
    assert len(embedder.users()) == 2


def test_progress_is_told_once_an_epoch_and_the_loss_falls() -> None:
    told: list[tuple[int, int, float]] = []
    fit(table(EVENTS), until=CUT, config=SMALL, on_progress=lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(epoch, 15) for epoch in range(1, 16)]
    assert told[-1][2] < told[0][2] / 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": 0},
        {"epochs": -1},
        {"temperature": 0.0},
        {"behavior_weights": {"a": -1.0}},
        {"loss": "hinge"},
        {"compare": "length"},
        {"dim": 1, "compare": "dot"},
        {"mixing": "all"},
        {"friend_weight": -1.0},
        {"item_edge_weight": float("nan")},
        {"num_negatives": 0},
        {"degree_exponents": (0.5, 2.0)},
        {"own_share": 1.5},
        {"impute_neighbors": 0},
    ],
)
def test_a_configuration_that_cannot_be_trained_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GraphConfig(**wrong)


def test_it_finds_held_out_items_that_popularity_does_not() -> None:
    """Eight tastes of 40 items, a skew within each; the last fifth of each history is held out."""
    random = np.random.default_rng(3)
    skew = 1 / np.arange(1, 41)
    train, truth, seen = [], {}, {}
    for user in range(240):
        chosen = random.choice(40, 15, replace=False, p=skew / skew.sum())
        item_ids = [f"{user % 8}-{item:02}" for item in chosen]
        item_ids[:3] = [f"{random.integers(8)}-{random.integers(40):02}" for _ in range(3)]
        seen[f"u{user}"], truth[f"u{user}"] = set(item_ids[:12]), set(item_ids[12:])
        train += [event(f"u{user}", item_id) for item_id in item_ids[:12]]
    embedder = fit(table(train), until=CUT, config=GraphConfig(dim=32, epochs=20))
    item_ids = sorted({one["item_id"] for one in train})
    users = embedder.users()
    cosines_UI = users.vectors_ND @ items_of(embedder, item_ids).T
    counts = np.array([sum(one["item_id"] == item for one in train) for item in item_ids])

    def recall_at_20(scores_UI: np.ndarray) -> float:
        recalls = []
        for user_id, scores_I in zip(users.item_ids, scores_UI, strict=True):
            order = [item_ids[i] for i in np.argsort(-scores_I, kind="stable")]
            best = [item for item in order if item not in seen[user_id]][:20]
            recalls.append(len(truth[user_id] & set(best)) / len(truth[user_id]))
        return float(np.mean(recalls))

    by_popularity = recall_at_20(np.broadcast_to(counts, cosines_UI.shape))
    assert recall_at_20(cosines_UI) > by_popularity + 0.2


@pytest.mark.shared_data
def test_movielens_takes_less_than_a_minute_for_forty_epochs(shared_data: Path) -> None:
    interactions = pq.read_table(shared_data / "movielens" / "interactions.parquet")
    interactions = interactions.rename_columns({"rating": "weight"})
    ends = [time.process_time()]
    embedder = fit(
        interactions,
        until=None,
        config=GraphConfig(epochs=3),
        on_progress=lambda *step: ends.append(time.process_time()),
    )
    assert 40 * np.diff(ends).min() < 60
    assert len(embedder.users()) > 600
