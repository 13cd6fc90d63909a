"""Spectral vectors on planted communities: what they rank, what they know, and what moves them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedders.graph_config import GraphConfig
from embedders.graph_edges import read_edges
from embedders.graph_embedder import GraphEmbedder
from embedders.graph_factors import factors, joined
from embedders.graph_lightgcn import fit as fit_lightgcn
from embedders.graph_spectral import fit
from embedders.items import Item, Modality
from embedders.registry import fit_graph
from embedders.vectors import normalize

CUT = datetime(2024, 6, 1, tzinfo=UTC)
SMALL = GraphConfig(spectral_dim=9, dim=16, epochs=5, batch_size=512)


def event(user_id: str, item_id: str, **columns: Any) -> dict[str, Any]:
    known = {"behavior": "view", "weight": None, "timestamp": CUT - timedelta(days=1)}
    return {"user_id": user_id, "item_id": item_id, **known, **columns}


def table(events: list[dict[str, Any]]) -> pa.Table:
    schema = {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "behavior": pa.string(),
        "weight": pa.float32(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    return pa.Table.from_pylist(events, schema=pa.schema(schema))


def planted() -> list[dict[str, Any]]:
    """Even users touch even items, odd users odd ones."""
    random = np.random.default_rng(1)
    return [
        event(f"u{user:03}", f"i{item:03}")
        for user in range(40)
        for item in random.choice(30, 10, replace=False) * 2 + user % 2
    ]


EVENTS = planted()


def community(ids: Any) -> np.ndarray:
    return np.array([int(one[1:]) % 2 for one in ids])


def cosines(found: GraphEmbedder) -> np.ndarray:
    return found.users().vectors_ND @ found.items().vectors_ND.T


def test_a_user_finds_their_own_community() -> None:
    found = fit(table(EVENTS), until=CUT, config=SMALL)
    is_same_UI = community(found.users().item_ids)[:, None] == community(found.items().item_ids)
    nearest_UK = np.argsort(-cosines(found), axis=1)[:, :20]
    assert np.take_along_axis(is_same_UI, nearest_UK, axis=1).mean() > 0.99


def test_all_singular_vectors_without_ridge_give_the_ridge_regression_back() -> None:
    """S = R D^-b W D^c, where W is the ridge regression on the damped matrix, in closed form."""
    config = replace(
        SMALL,
        spectral_dim=61,
        spectral_exponents=(0.4, 0.3),
        spectral_ridge=0.2,
        spectral_popularity=0.1,
    )
    edges = read_edges(table(EVENTS), until=CUT, config=config)
    matrix_UI = np.zeros((len(edges.user_ids), len(edges.item_ids)))
    matrix_UI[edges.users_E, edges.items_E] = edges.weights_E
    degrees_U, degrees_I = matrix_UI.sum(axis=1), matrix_UI.sum(axis=0)
    damped_UI = degrees_U[:, None] ** -0.4 * matrix_UI * degrees_I**-0.3
    gram_II = damped_UI.T @ damped_UI
    ridge = 0.2 * np.linalg.eigvalsh(gram_II).max()
    weights_II = np.linalg.solve(gram_II + ridge * np.eye(len(gram_II)), gram_II)
    expected_UI = (matrix_UI * degrees_I**-0.3) @ weights_II * degrees_I**0.1

    found_ND = factors(edges, config=config)
    scores_UI = found_ND[: len(matrix_UI)] @ found_ND[len(matrix_UI) :].T

    np.testing.assert_allclose(normalize(scores_UI), normalize(expected_UI), atol=1e-4)


def test_few_singular_vectors_are_the_largest_ones() -> None:
    config = replace(SMALL, spectral_dim=5, spectral_exponents=(0.0, 0.0), spectral_popularity=0)
    edges = read_edges(table(EVENTS), until=CUT, config=config)
    matrix_UI = np.zeros((len(edges.user_ids), len(edges.item_ids)))
    matrix_UI[edges.users_E, edges.items_E] = edges.weights_E
    _, values_K, items_KI = np.linalg.svd(matrix_UI)
    squares_K, items_KI = values_K[:4] ** 2, items_KI[:4]
    damping_K = squares_K / (squares_K + config.spectral_ridge * squares_K[0])
    expected_UI = (matrix_UI @ items_KI.T * damping_K) @ items_KI

    found_ND = factors(edges, config=config)
    scores_UI = found_ND[: len(matrix_UI)] @ found_ND[len(matrix_UI) :].T

    assert found_ND.shape == (100, 5)
    np.testing.assert_allclose(normalize(scores_UI), normalize(expected_UI), atol=1e-4)


def test_equal_events_are_bit_equal_vectors_in_whatever_order_they_come() -> None:
    one, other = (fit(table(each), until=CUT, config=SMALL) for each in (EVENTS, EVENTS[::-1]))
    assert one.space == other.space
    np.testing.assert_array_equal(one.users().vectors_ND, other.users().vectors_ND)
    np.testing.assert_array_equal(one.items().vectors_ND, other.items().vectors_ND)


def test_events_from_the_cut_on_change_no_bit() -> None:
    later = [event("u000", "i001", timestamp=CUT), event("new", "new", timestamp=CUT)]
    before = fit(table(EVENTS), until=CUT, config=SMALL)
    after = fit(table(EVENTS + later), until=CUT, config=SMALL)
    assert before.space == after.space
    np.testing.assert_array_equal(before.users().vectors_ND, after.users().vectors_ND)


def test_a_graph_smaller_than_the_space_fills_up_with_zeros() -> None:
    found = fit(table(EVENTS[:10]), until=CUT, config=SMALL)  # one user
    assert found.items().vectors_ND.shape == (10, 9)
    assert np.isfinite(found.items().vectors_ND).all()
    np.testing.assert_allclose(np.linalg.norm(found.users().vectors_ND, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"spectral_ridge": 0.3}, True),
        ({"spectral_exponents": (0.5, 0.4)}, True),
        ({"min_weight": 1.0}, True),
        ({"epochs": 6}, False),
        ({"impute": False}, False),
    ],
)
def test_the_revision_follows_what_the_encoder_looks_at(
    change: dict[str, Any], is_another: bool
) -> None:
    plain = fit(table(EVENTS), until=CUT, config=SMALL)
    changed = fit(table(EVENTS), until=CUT, config=replace(SMALL, **change))
    assert (plain.space.revision != changed.space.revision) is is_another


def test_lightgcn_alone_does_not_look_at_spectral_settings() -> None:
    plain = fit_lightgcn(table(EVENTS), until=CUT, config=SMALL)
    changed = fit_lightgcn(table(EVENTS), until=CUT, config=replace(SMALL, spectral_ridge=0.3))
    assert plain.space == changed.space


def test_side_by_side_cosines_are_the_weighted_mean_of_both() -> None:
    config = replace(SMALL, spectral_share=0.3)
    both = fit_lightgcn(table(EVENTS), until=CUT, config=config)
    trained = fit_lightgcn(table(EVENTS), until=CUT, config=SMALL)
    spectral = fit(table(EVENTS), until=CUT, config=SMALL)
    assert both.space.dim == 16 + 9
    assert both.space.revision != trained.space.revision
    expected_UI = 0.7 * cosines(trained) + 0.3 * cosines(spectral)
    np.testing.assert_allclose(cosines(both), expected_UI, atol=1e-5)


def test_the_registry_trains_it_by_name() -> None:
    found = fit_graph(SMALL, table(EVENTS), CUT, encoder="spectral")
    assert (found.space.modality, found.space.encoder) == (Modality.GRAPH, "spectral")
    assert found.until == CUT
    assert found.fingerprint(Item(item_id="new", title="")) is None
    with pytest.raises(ValueError, match="no graph encoder 'node2vec'"):
        fit_graph(SMALL, table(EVENTS), CUT, encoder="node2vec")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectral_dim": 1}, "spectral_dim must be at least 2"),
        ({"spectral_share": 1.0}, "choose the encoder 'spectral'"),
        ({"spectral_ridge": 0.0}, "spectral_ridge must be positive"),
        ({"spectral_exponents": (0.5, 2.0)}, "spectral_exponents must be two numbers"),
        ({"spectral_popularity": 2.0}, "spectral_popularity lies between"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphConfig(**change)


def test_joining_keeps_unit_length() -> None:
    unit_ND = normalize(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    both_ND = joined(unit_ND, unit_ND, share=0.25)
    np.testing.assert_allclose(np.linalg.norm(both_ND, axis=1), 1, rtol=1e-6)
