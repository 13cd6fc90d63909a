"""Histories become query vectors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings
from retrieval.candidates import Query
from retrieval.pooled import PooledHistory, PoolingConfig, visible_history
from tests.retrieval.small_world import TEXTS, USERS, history, items

CUT = datetime(2024, 6, 1, tzinfo=UTC)


def encoder(users: Embeddings | None = None, as_of: datetime | None = None, **config: Any) -> Any:
    return PooledHistory(items(), config=PoolingConfig(**config), user_vectors=users, as_of=as_of)


def block(item_id: str, name: str = Modality.TEXT) -> np.ndarray:
    item_vectors = items()
    return item_vectors.block(name)[item_vectors.row_of[item_id]]


def test_one_event_is_its_item() -> None:
    encoded = encoder().encode(Query(history=history("sour-0"))).vectors
    assert list(encoded) == [Modality.GRAPH, Modality.TEXT]
    for name, vector in encoded.items():
        np.testing.assert_allclose(vector, block("sour-0", name), atol=1e-6)


def test_an_event_weighs_half_as_much_as_one_a_half_life_later() -> None:
    events = history("sour-0", "unheard", "unheard", "sweet-0")
    encoded = encoder(half_life=3).encode(Query(history=events)).vectors[Modality.TEXT]
    expected = 0.5 * block("sour-0") + block("sweet-0")
    np.testing.assert_allclose(encoded, expected / np.linalg.norm(expected), atol=1e-6)


def test_behaviors_weigh_as_configured_and_others_one() -> None:
    events = (*history("sour-0", behavior="buy"), *history("sweet-0"))
    weights = {"buy": 3.0}
    encoded = encoder(half_life=1, behavior_weights=weights).encode(Query(history=events)).vectors
    expected = 1.5 * block("sour-0") + block("sweet-0")
    np.testing.assert_allclose(
        encoded[Modality.TEXT], expected / np.linalg.norm(expected), atol=1e-6
    )
    ignored = (
        encoder(behavior_weights={"view": 0.0, "buy": 0.0}).encode(Query(history=events)).vectors
    )
    assert ignored == {}


def test_only_the_newest_events_up_to_the_limit_count() -> None:
    long = encoder(limit=1).encode(Query(history=history("sour-0", "sweet-0"))).vectors
    np.testing.assert_allclose(long[Modality.TEXT], block("sweet-0"), atol=1e-6)


def test_a_modality_that_the_history_lacks_is_absent() -> None:
    assert list(encoder().encode(Query(history=history("sweet-new"))).vectors) == [Modality.TEXT]
    assert list(encoder().encode(Query(history=history("sour-mute"))).vectors) == [Modality.GRAPH]


def test_a_query_of_some_modalities_has_only_those() -> None:
    query = Query(history=history("sour-0"), modalities=frozenset({Modality.TEXT, Modality.AUDIO}))
    assert list(encoder().encode(query).vectors) == [Modality.TEXT]


def test_nothing_known_gives_an_empty_answer() -> None:
    pooled = encoder(users=USERS)
    assert pooled.encode(Query(user_id="unheard", history=())).vectors == {}
    assert pooled.encode(Query(history=history("unheard", "bare"))).vectors == {}


def test_a_user_known_to_the_graph_is_blended_with_the_history() -> None:
    query = Query(user_id="sweet-user", history=history("sour-0"))
    user = USERS.vectors_ND[1]
    for share in (0.0, 0.25, 1.0):
        encoded = encoder(users=USERS, graph_user_share=share).encode(query).vectors[Modality.GRAPH]
        expected = (1 - share) * block("sour-0", Modality.GRAPH) + share * user
        np.testing.assert_allclose(encoded, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_user_known_to_the_graph_alone_is_their_graph_vector() -> None:
    encoded = encoder(users=USERS).encode(Query(user_id="sweet-user", history=())).vectors
    assert list(encoded) == [Modality.GRAPH]
    np.testing.assert_allclose(encoded[Modality.GRAPH], USERS.vectors_ND[1], atol=1e-6)


def test_graph_vectors_that_saw_later_events_are_not_used() -> None:
    query = Query(user_id="sweet-user", history=(), as_of=CUT)
    assert encoder(users=USERS, as_of=CUT).encode(query).vectors
    assert encoder(users=USERS, as_of=CUT - timedelta(days=1)).encode(query).vectors
    assert not encoder(users=USERS, as_of=CUT + timedelta(days=1)).encode(query).vectors
    assert not encoder(users=USERS, as_of=None).encode(query).vectors


def test_events_from_the_cut_on_are_hidden() -> None:
    def at(timestamp: datetime | None) -> Interaction:
        return Interaction(item_id="sour-0", behavior="view", timestamp=timestamp)

    before, on = at(CUT - timedelta(seconds=1)), at(CUT)
    assert visible_history(Query(history=(before, on), as_of=CUT)) == (before,)
    assert visible_history(Query(history=(before, on))) == (before, on)
    assert visible_history(Query(history=(at(None),), as_of=CUT)) == (at(None),)


def test_a_history_that_nobody_looked_up_is_refused() -> None:
    with pytest.raises(ValueError, match="look up the stored one first"):
        encoder().encode(Query(user_id="sour-user"))


def test_users_of_another_space_are_refused() -> None:
    with pytest.raises(ValueError, match="do not meet"):
        encoder(
            users=Embeddings(
                space=USERS.space.__class__(
                    modality=Modality.GRAPH, encoder="lightgcn", revision="2", dim=4
                ),
                item_ids=USERS.item_ids,
                vectors_ND=USERS.vectors_ND,
            )
        )
    assert TEXTS.space in items().spaces


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"limit": 0}, "limit must be at least 1"),
        ({"half_life": 0}, "half_life positive"),
        ({"graph_user_share": 1.5}, "graph_user_share"),
        ({"behavior_weights": {"buy": -1.0}}, "'buy'"),
        ({"weights": {Modality.TEXT: float("inf")}}, "'text'"),
        ({"weights": {"smell": 1.0}}, "no block 'smell'; choose among audio"),
    ],
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PoolingConfig(**wrong)
