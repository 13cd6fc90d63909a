"""What every embedder does with good, absent, damaged and odd content."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality
from embedders.vectors import Space


class Letters(Embedder):
    """A title as the numbers of its As and Bs; real enough to fail in every way."""

    space = Space(modality=Modality.TEXT, encoder="letters", revision="1", dim=2)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def fingerprint(self, item: Item) -> str | None:
        if item.title == "lost":
            raise BadContent("no such file")
        return item.title or None

    def load(self, item: Item) -> str:
        if item.title == "torn":
            raise BadContent("the file ends early")
        return item.title

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        self.sizes.append(len(contents))
        if "odd" in contents:
            raise ValueError("cannot spell odd")
        counts = [(text.count("a"), text.count("b")) for text in contents]
        vectors_ND = np.array(counts, dtype=np.float32).reshape(-1, 2)
        vectors_ND[[text == "nan" for text in contents]] = np.nan
        return vectors_ND


def items(*titles: str) -> list[Item]:
    return [Item(item_id=f"{n}", title=title) for n, title in enumerate(titles)]


def test_vectors_come_in_the_order_of_their_items_and_with_unit_length() -> None:
    embeddings, rejects = Letters().embed(items("b", "aa", "aaabbbb"))

    assert embeddings.item_ids == ["0", "1", "2"]
    np.testing.assert_allclose(embeddings.vectors_ND, [[0, 1], [1, 0], [0.6, 0.8]], rtol=1e-6)
    assert rejects == []


def test_no_content_is_no_fault_and_bad_content_is_one() -> None:
    embeddings, rejects = Letters().embed(items("a", "", "lost", "torn"))

    assert embeddings.item_ids == ["0"]
    assert [(reject.key, reject.reason) for reject in rejects] == [
        ("2", "no such file"),
        ("3", "the file ends early"),
    ]
    assert {reject.source for reject in rejects} == {Letters.space.space_id}


def test_one_odd_content_does_not_cost_the_others_their_vectors() -> None:
    embedder = Letters()

    embeddings, rejects = embedder.embed(items("a", "odd", "b"))

    assert embeddings.item_ids == ["0", "2"]
    assert [(reject.key, reject.reason) for reject in rejects] == [("1", "cannot spell odd")]
    assert embedder.sizes == [3, 1, 1, 1]


def test_a_vector_without_direction_is_rejected_and_the_others_are_kept() -> None:
    embeddings, rejects = Letters().embed(items("c", "a", "nan"))

    assert embeddings.item_ids == ["1"]
    assert [(reject.key, reject.reason) for reject in rejects] == [
        ("0", "the encoder gave it a vector of zeros: no direction"),
        ("2", "the encoder gave it a vector that is not finite"),
    ]


def test_nothing_to_embed_is_an_empty_matrix_and_never_reaches_the_encoder() -> None:
    embedder = Letters()

    embeddings, rejects = embedder.embed(items("", ""))

    assert embeddings.vectors_ND.shape == (0, 2)
    assert rejects == []
    assert embedder.sizes == []


@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (2,)])
def test_an_encoder_that_breaks_its_promise_of_dimensions_is_refused(
    shape: tuple[int, ...],
) -> None:
    class Liar(Letters):
        def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
            return np.ones(shape, dtype=np.float32)

    with pytest.raises(ValueError, match=r"expected vectors of shape \(2, 2\), the encoder gave"):
        Liar().embed(items("a", "b"))


def test_an_item_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="an id occurs twice"):
        Letters().embed(items("a")[:1] * 2)
