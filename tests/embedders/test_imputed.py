"""Vectors for items without events, on worlds whose neighbors are known."""

import numpy as np
import pytest

from embedders import imputed
from embedders.imputed import content_hash, impute
from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize

GRAPH = Space(modality=Modality.GRAPH, encoder="lightgcn", revision="r", dim=3)
TEXT = Space(modality=Modality.TEXT, encoder="words", revision="r", dim=4)
IMAGE = Space(modality=Modality.IMAGE, encoder="pixels", revision="r", dim=2, is_normalized=False)


def embeddings(space: Space, vectors: dict[str, list[float]]) -> Embeddings:
    array = np.array(list(vectors.values()), dtype=np.float32).reshape(-1, space.dim)
    if space.is_normalized:
        array = normalize(array)
    return Embeddings(space=space, item_ids=list(vectors), vectors_ND=array)


def vector(found: Embeddings, item_id: str) -> np.ndarray:
    return found.vectors_ND[list(found.item_ids).index(item_id)]


KNOWN = embeddings(GRAPH, {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]})
WORDS = {"a": [1.0, 0, 0, 0], "b": [0, 1.0, 0, 0], "c": [0, 0, 1.0, 0]}


def test_a_new_item_lies_where_the_one_it_resembles_lies() -> None:
    content = embeddings(TEXT, {**WORDS, "new": [0, 0.9, 0.1, 0]})
    found = impute([content], KNOWN, ["new"], k=1)
    assert found.space == GRAPH
    np.testing.assert_allclose(vector(found, "new"), [0, 1, 0], atol=1e-6)


def test_nearer_neighbors_weigh_more_and_unlike_ones_nothing() -> None:
    content = embeddings(TEXT, {**WORDS, "new": [0, 0.8, 0.6, 0]})
    found = vector(impute([content], KNOWN, ["new"], k=3), "new")
    assert found[1] > found[2] > 0
    assert found[0] == 0


def test_modalities_speak_together_and_an_absent_one_is_silent() -> None:
    """The words say b a little more than c, the picture says c; `mute` has no picture."""
    words = embeddings(TEXT, {**WORDS, "both": [0, 1, 0.9, 0], "mute": [0, 1, 0.9, 0]})
    pixels = embeddings(IMAGE, {"a": [9, 0], "b": [5, 5], "c": [0, 7], "both": [0, 200]})
    found = impute([words, pixels], KNOWN, ["both", "mute"], k=1)
    np.testing.assert_allclose(vector(found, "both"), [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(vector(found, "mute"), [0, 1, 0], atol=1e-6)


def test_a_component_that_all_items_share_says_nothing() -> None:
    shared = {one: [*(0.05 * np.array(WORDS[one][:3])), 1.0] for one in WORDS}
    content = embeddings(TEXT, {**shared, "new": [0.04, 0.05, 0, 1.0], "average": [1, 1, 1, 60]})
    found = impute([content], KNOWN, ["new", "average"], k=3)
    assert vector(found, "new")[2] == 0
    assert np.argmax(vector(found, "new")) == 1


def test_items_without_content_or_likeness_are_left_out() -> None:
    content = embeddings(TEXT, {**WORDS, "opposite": [-1, -1, -1, 0.0]})
    assert list(impute([content], KNOWN, ["opposite", "bare"]).item_ids) == []
    assert len(impute([], KNOWN, ["bare"])) == 0
    nothing = embeddings(GRAPH, {})
    assert len(impute([content], nothing, ["opposite"])) == 0


def test_known_items_keep_their_own_vectors_and_ids_come_in_order() -> None:
    content = embeddings(TEXT, {**WORDS, "z": [1, 0, 0, 0], "y": [1, 0, 0, 0]})
    found = impute([content], KNOWN, ["z", "a", "y", "z"])
    assert list(found.item_ids) == ["y", "z"]


def test_ties_fall_by_item_id_whatever_the_order_of_the_rows() -> None:
    words = {"c": [1.0, 0, 0, 0], "b": [1.0, 0, 0, 0], "a": [1.0, 0, 0, 0], "x": [0, 0, 1.0, 0]}
    known = embeddings(GRAPH, {"b": [0, 1, 0], "c": [0, 0, 1], "a": [1, 0, 0], "x": [-1, 0, 0]})
    content = embeddings(TEXT, {**words, "new": [1, 0, 0, 0]})
    found = impute([content], known, ["new"], k=2)
    np.testing.assert_allclose(vector(found, "new"), np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)


def test_blocks_of_any_size_give_what_one_sorted_list_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(4)
    known_ids, new_ids = [f"k{n:03}" for n in range(97)], [f"n{n:03}" for n in range(23)]
    vectors = normalize(random.normal(size=(120, 4)))
    content = Embeddings(space=TEXT, item_ids=[*known_ids, *new_ids], vectors_ND=vectors)
    known = Embeddings(
        space=GRAPH, item_ids=known_ids, vectors_ND=normalize(random.normal(size=(97, 3)))
    )
    centered = normalize(vectors - vectors[:97].mean(axis=0, dtype=np.float64))
    likeness = np.maximum(centered[97:] @ centered[:97].T, 0)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :10]
    weights = np.take_along_axis(likeness, nearest, axis=1)
    expected = normalize((weights[:, :, None] * known.vectors_ND[nearest]).sum(axis=1))

    monkeypatch.setattr(imputed, "NEW_ROWS", 5)
    monkeypatch.setattr(imputed, "TRAINED_ROWS", 7)
    found = impute([content], known, new_ids)

    assert list(found.item_ids) == new_ids
    np.testing.assert_allclose(found.vectors_ND, expected, atol=1e-5)


def test_equal_input_gives_bit_equal_vectors_in_whatever_order_rows_come() -> None:
    random = np.random.default_rng(5)
    ids = [f"i{n:02}" for n in range(40)]
    vectors = normalize(random.normal(size=(40, 4)))
    graph = normalize(random.normal(size=(30, 3)))
    first = impute(
        [Embeddings(space=TEXT, item_ids=ids, vectors_ND=vectors)],
        Embeddings(space=GRAPH, item_ids=ids[:30], vectors_ND=graph),
        ids,
    )
    second = impute(
        [Embeddings(space=TEXT, item_ids=ids[::-1], vectors_ND=vectors[::-1].copy())],
        Embeddings(space=GRAPH, item_ids=ids[:30][::-1], vectors_ND=graph[::-1].copy()),
        ids[::-1],
    )
    assert list(first.item_ids) == list(second.item_ids)
    np.testing.assert_array_equal(first.vectors_ND, second.vectors_ND)


def test_another_graph_other_content_or_another_k_is_another_hash() -> None:
    hashes = {"text_1": "x", "image_1": "y"}
    later = Space(modality=Modality.GRAPH, encoder="lightgcn", revision="later", dim=3)
    found = {
        content_hash(GRAPH, hashes=hashes, k=10),
        content_hash(later, hashes=hashes, k=10),
        content_hash(GRAPH, hashes={**hashes, "text_1": "z"}, k=10),
        content_hash(GRAPH, hashes={"text_1": "x"}, k=10),
        content_hash(GRAPH, hashes=hashes, k=5),
    }
    assert len(found) == 5
    assert content_hash(GRAPH, hashes=dict(reversed(hashes.items())), k=10) in found


def test_no_neighbors_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        impute([], KNOWN, ["new"], k=0)
