"""An embedder in, the checks that every embedder passes out.

A test class inherits `EmbedderContract` and gives two fixtures: `make` and `world`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.items import Item

SAME = 1e-5

Make = Callable[[int], Embedder]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Items whose treatment is known."""

    good: list[Item]
    """At least five of distinct content, of several lengths or sizes where there are such."""
    twin: Item
    """Another item with exactly the content of `good[0]`."""
    bare: Item
    """An item without content of this modality."""
    damaged: list[Item]
    """Items that promise content and do not keep it; none where that cannot be."""


class EmbedderContract:
    """What every embedder promises."""

    @pytest.fixture
    def make(self) -> Make:
        """A batch size -> the embedder; it is ignored by those without batches."""
        raise NotImplementedError

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    def test_vectors_keep_the_items_order(self, make: Make, world: World) -> None:
        embedder = make(2)
        forward, _ = embedder.embed(world.good)
        backward, _ = embedder.embed(world.good[::-1])
        assert list(forward.item_ids) == [item.item_id for item in world.good]
        np.testing.assert_allclose(forward.vectors_ND, backward.vectors_ND[::-1], atol=SAME)

    def test_vectors_are_finite_of_the_spaces_length_and_distinct(
        self, make: Make, world: World
    ) -> None:
        embedder = make(2)
        vectors_ND = vectors(embedder, world.good)
        assert vectors_ND.shape == (len(world.good), embedder.space.dim)
        assert vectors_ND.dtype == np.float32
        assert np.isfinite(vectors_ND).all()
        cosines_NN = vectors_ND @ vectors_ND.T
        if embedder.space.is_normalized:
            np.testing.assert_allclose(np.diag(cosines_NN), 1, atol=SAME)
        distances = np.linalg.norm(vectors_ND[:, None] - vectors_ND[None], axis=-1)
        assert distances[~np.eye(len(distances), dtype=bool)].min() > 1e-4

    def test_the_batch_size_does_not_change_a_vector(self, make: Make, world: World) -> None:
        one = vectors(make(1), world.good)
        for batch_size in (2, 64):
            np.testing.assert_allclose(vectors(make(batch_size), world.good), one, atol=SAME)

    def test_neighbors_do_not_change_a_vector(self, make: Make, world: World) -> None:
        embedder = make(64)
        together = vectors(embedder, world.good)
        alone = np.concatenate([vectors(embedder, [item]) for item in world.good])
        np.testing.assert_allclose(together, alone, atol=SAME)

    def test_a_second_embedder_makes_the_same_vectors_in_the_same_space(
        self, make: Make, world: World
    ) -> None:
        first, second = make(2), make(2)
        assert first.space == second.space
        np.testing.assert_array_equal(vectors(first, world.good), vectors(second, world.good))

    def test_equal_content_has_equal_vectors_and_fingerprints(
        self, make: Make, world: World
    ) -> None:
        embedder = make(1)
        first = world.good[0]
        assert embedder.fingerprint(first) == embedder.fingerprint(world.twin)
        np.testing.assert_array_equal(*vectors(embedder, [first, world.twin]))

    def test_other_content_has_another_fingerprint(self, make: Make, world: World) -> None:
        embedder = make(1)
        fingerprints = {embedder.fingerprint(item) for item in world.good}
        assert len(fingerprints - {None}) == len(world.good)

    def test_an_item_without_content_is_neither_embedded_nor_rejected(
        self, make: Make, world: World
    ) -> None:
        embedder = make(2)
        assert embedder.fingerprint(world.bare) is None
        embeddings, rejects = embedder.embed([world.bare, world.good[0]])
        assert list(embeddings.item_ids) == [world.good[0].item_id]
        assert rejects == []

    def test_damaged_content_is_rejected_and_the_good_rows_are_kept(
        self, make: Make, world: World
    ) -> None:
        embedder = make(2)
        embeddings, rejects = embedder.embed([*world.damaged, *world.good])
        assert [reject.key for reject in rejects] == [item.item_id for item in world.damaged]
        assert all(len(reject.reason) > 20 for reject in rejects)
        np.testing.assert_allclose(embeddings.vectors_ND, vectors(embedder, world.good), atol=SAME)

    def test_damaged_content_is_named_when_it_is_read(self, make: Make, world: World) -> None:
        embedder = make(2)
        for item in world.damaged:
            path = item.image_path or item.audio_path
            with pytest.raises(BadContent, match=path.name if path else item.item_id):
                read(embedder, item)

    def test_contents_may_be_loaded_by_several_threads_at_once(
        self, make: Make, world: World
    ) -> None:
        embedder = make(4)
        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(embedder.load, world.good * 8))
        item_ids = [str(n) for n in range(len(contents))]
        embeddings, rejects = embedder.embed_contents(item_ids, contents)
        assert rejects == []
        expected = np.tile(vectors(embedder, world.good), (8, 1))
        np.testing.assert_allclose(embeddings.vectors_ND, expected, atol=SAME)

    def test_no_items_give_no_vectors(self, make: Make) -> None:
        embedder = make(2)
        embeddings, rejects = embedder.embed([])
        assert embeddings.vectors_ND.shape == (0, embedder.space.dim)
        assert rejects == []
        assert embedder.encode([]).shape == (0, embedder.space.dim)


def read(embedder: Embedder, item: Item) -> None:
    """What `embed` does before it encodes."""
    if embedder.fingerprint(item) is not None:
        embedder.load(item)


def vectors(embedder: Embedder, items: list[Item]) -> NDArray[np.float32]:
    """The vectors of items that are all good."""
    embeddings, rejects = embedder.embed(items)
    assert rejects == []
    return embeddings.vectors_ND
