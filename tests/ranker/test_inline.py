"""Vectors cross as bytes: what is sound arrives, and what is not is told, whatever the shape."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from ranker import inline, wire
from ranker.inline import InlineVectors
from ranker.pb import ranker_pb2 as pb

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)
SMALL = {"min_value": -100, "max_value": 100}


@dataclass
class Sent:
    """Vectors as they travel."""

    item_ids: list[str]
    dtype: str
    shape: list[int]
    data: bytes


def space(dim: int, modality: Modality | None = Modality.TEXT) -> Space:
    return Space(modality=modality, encoder="words", revision="1", dim=dim)


def ids(count: int) -> list[str]:
    return [f"item-{n}" for n in range(count)]


@pytest.mark.parametrize(("dtype", "width"), [("float32", 32), ("float16", 16)])
@given(data=st.data())
def test_sound_vectors_arrive_in_unit_length(dtype: str, width: int, data: st.DataObject) -> None:
    numbers = st.floats(**SMALL, width=width)
    rows_ND: NDArray[np.floating] = data.draw(
        arrays.arrays(inline.DTYPES[dtype], SHAPES, elements=numbers)
    )
    sent = Sent(ids(len(rows_ND)), dtype, list(rows_ND.shape), rows_ND.tobytes())
    found = list(inline.faults(sent, space(rows_ND.shape[1])))
    if not rows_ND.any(axis=1).all():
        assert [name for name, _ in found] == ["data"]
        return
    assert found == []
    embeddings = inline.read(sent, space(rows_ND.shape[1]))
    np.testing.assert_array_equal(embeddings.vectors_ND, normalize(rows_ND.astype(np.float32)))


@given(
    dtype=st.sampled_from(["float32", "float16", "float64", "", "<f4"]),
    shape=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 4), max_size=4),
    data=st.binary(max_size=64),
    num_items=st.integers(0, 4),
)
def test_whatever_comes_is_read_or_told_by_its_field(
    dtype: str, shape: list[int], data: bytes, num_items: int
) -> None:
    sent = Sent(ids(num_items), dtype, shape, data)
    asked = space(3)
    found = list(inline.faults(sent, asked))
    assert {name for name, _ in found} <= {"dtype", "shape", "data"}
    if not found:
        assert inline.read(sent, asked).vectors_ND.shape == (num_items, 3) == tuple(shape)
    elif shape == [num_items, 3] and dtype in inline.DTYPES and num_items:
        assert found[0][0] == "data"


@given(rows_ND=arrays.arrays(np.float32, SHAPES, elements=st.floats(1, 100, width=32)))
def test_what_a_client_sends_is_what_the_server_reads(rows_ND: NDArray[np.float32]) -> None:
    given = Embeddings(
        space=space(rows_ND.shape[1]), item_ids=ids(len(rows_ND)), vectors_ND=normalize(rows_ND)
    )
    message = pb.InlineVectors.FromString(wire.to_vectors(given).SerializeToString())
    assert message.space_id == given.space.space_id
    assert list(inline.faults(message, given.space)) == []
    read = inline.read(message, given.space)
    assert list(read.item_ids) == list(given.item_ids)
    np.testing.assert_allclose(read.vectors_ND, given.vectors_ND, rtol=1e-6)


def test_each_space_comes_once_and_is_of_a_modality() -> None:
    rows_ND = normalize(np.ones((1, 2), dtype=np.float32))
    one = Embeddings(space=space(2), item_ids=["a"], vectors_ND=rows_ND)
    assert InlineVectors(embeddings=(one,)).item_ids == {"a"}
    with pytest.raises(ValueError, match="one set of vectors for each space"):
        InlineVectors(embeddings=(one, one))
    fused = Embeddings(space=space(2, None), item_ids=["a"], vectors_ND=rows_ND)
    with pytest.raises(ValueError, match="of no modality"):
        InlineVectors(embeddings=(fused,))
