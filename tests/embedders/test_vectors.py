"""A space's identity, and the checks that every matrix of vectors passes."""

import re
from dataclasses import replace

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize

SPACE = Space(
    modality=Modality.TEXT, encoder="MiniLM-L6", revision="abc123", dim=3, preprocessing="as is"
)
UNIT = np.eye(3, dtype=np.float32)


def test_a_space_keeps_its_id_from_release_to_release() -> None:
    # A golden value: should it change, every stored view would lose its vectors.
    assert SPACE.space_id == "text_minilm_l6_6abaaf8c"


@pytest.mark.parametrize(
    "change",
    [
        {"modality": Modality.IMAGE},
        {"encoder": "minilm-l7"},
        {"revision": "abc124"},
        {"dim": 4},
        {"preprocessing": "centered"},
        {"is_normalized": False},
    ],
    ids=str,
)
def test_any_other_fact_makes_another_space(change: dict[str, object]) -> None:
    assert replace(SPACE, **change).space_id != SPACE.space_id


def test_a_space_id_is_fit_for_a_file_view_or_column_name() -> None:
    odd = replace(SPACE, modality=None, encoder="Org/Model v2.0 — " + "x" * 99)

    assert re.fullmatch(r"fused_[a-z0-9_]{1,32}_[0-9a-f]{8}", odd.space_id)


def test_a_space_without_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one dimension, got 0"):
        replace(SPACE, dim=0)


def test_good_vectors_are_counted() -> None:
    assert len(Embeddings(space=SPACE, item_ids=["a", "b", "c"], vectors_ND=UNIT)) == 3


def test_no_vectors_at_all_are_fine() -> None:
    nothing = np.zeros((0, 3), dtype=np.float32)

    assert len(Embeddings(space=SPACE, item_ids=[], vectors_ND=nothing)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_item(bad: float) -> None:
    vectors_ND = UNIT.copy()
    vectors_ND[1, 0] = bad

    with pytest.raises(ValueError, match=r"1 vectors are not finite .* belongs to 'b'"):
        Embeddings(space=SPACE, item_ids=["a", "b", "c"], vectors_ND=vectors_ND)


def test_a_vector_without_unit_length_is_refused_in_a_normalized_space_only() -> None:
    longer = UNIT * np.array([[1], [1], [2]], dtype=np.float32)

    with pytest.raises(ValueError, match="unit length, the first belongs to 'c'"):
        Embeddings(space=SPACE, item_ids=["a", "b", "c"], vectors_ND=longer)

    free = replace(SPACE, is_normalized=False)
    assert len(Embeddings(space=free, item_ids=["a", "b", "c"], vectors_ND=longer)) == 3


@pytest.mark.parametrize("shape", [(2, 3), (3, 4), (3,)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"shape (3, 3), got {shape}")):
        Embeddings(
            space=SPACE, item_ids=["a", "b", "c"], vectors_ND=np.ones(shape, dtype=np.float32)
        )


def test_another_number_type_is_refused() -> None:
    with pytest.raises(ValueError, match="expected float32, got float64"):
        Embeddings(space=SPACE, item_ids=["a", "b", "c"], vectors_ND=np.eye(3))  # type: ignore[arg-type]


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(ValueError, match="an id occurs twice"):
        Embeddings(space=SPACE, item_ids=["a", "b", "a"], vectors_ND=UNIT)


def test_normalizing_gives_unit_length_and_leaves_zeros_alone() -> None:
    vectors_ND = normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))

    assert vectors_ND.dtype == np.float32
    np.testing.assert_allclose(vectors_ND, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
