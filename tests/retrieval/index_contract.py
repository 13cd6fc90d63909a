"""What every index must do; each index's test file inherits it."""

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.vectors import normalize
from retrieval.base import Index, UnusableIndex
from retrieval.exact import ExactIndex
from retrieval.registry import create, load

Found = list[list[tuple[str, float]]]

AXES = np.eye(3, dtype=np.float32)


@cache
def world() -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """3,000 items in 30 clusters, and 20 queries among them."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(30, 24))
    vectors = centers[random.integers(30, size=3020)] + 0.5 * random.normal(size=(3020, 24))
    item_ids = [f"item {number}" for number in random.permutation(3000)]
    return item_ids, normalize(vectors[:3000]), normalize(vectors[3000:])


def recall(found: Found, true: Found) -> float:
    """The mean share of the true items that were found."""
    return float(
        np.mean(
            [
                len(dict(a).keys() & dict(b).keys()) / len(b)
                for a, b in zip(found, true, strict=True)
            ]
        )
    )


class IndexContract:
    """Inherited as `class TestX(IndexContract): kind = "x"`."""

    kind: ClassVar[str]
    least_recall: ClassVar[float] = 1.0
    """Of the true first ten, at the greatest effort, in `world`."""

    def index(self, item_ids: list[str], vectors: object, dim: int = 3) -> Index:
        index = create(self.kind, dim=dim)
        index.add(item_ids, np.asarray(vectors, dtype=np.float32))
        return index

    def test_the_nearest_comes_first_with_its_inner_product(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        found = index.search(np.array([[0.2, 0.9, 0.5]], dtype=np.float32), limit=2)
        assert [item_id for item_id, _ in found[0]] == ["b", "c"]
        np.testing.assert_allclose([score for _, score in found[0]], [0.9, 0.5], rtol=1e-6)

    def test_each_query_has_its_own_answer(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        found = index.search(AXES[[2, 0]], limit=1)
        assert found == [[("c", 1.0)], [("a", 1.0)]]

    def test_equal_scores_fall_by_item_id(self) -> None:
        index = self.index(["d", "b", "c", "a"], [[1, 0, 0]] * 3 + [[0, 1, 0]])
        found = index.search(AXES[:1], limit=4)
        assert [item_id for item_id, _ in found[0]] == ["b", "c", "d", "a"]

    def test_ties_across_the_limit_keep_the_smallest_ids(self) -> None:
        vector = normalize(np.random.default_rng(0).normal(size=(1, 7)))
        item_ids = [f"{number:04}" for number in range(500)][::-1]
        index = self.index(item_ids, np.repeat(vector, 500, axis=0), dim=7)
        index.add(["zzzz"], 2 * vector)
        for limit in (1, 2, 50):
            found = index.search(vector, limit=limit)[0]
            assert [one for one, _ in found] == ["zzzz", *sorted(item_ids)][:limit]

    def test_equal_vectors_score_equally_bit_by_bit_alone_and_in_a_batch(self) -> None:
        random = np.random.default_rng(1)
        vectors = normalize(np.tile(random.normal(size=(1, 333)), (101, 1)))
        index = self.index([str(number) for number in range(101)], vectors, dim=333)
        queries = normalize(random.normal(size=(70, 333)))
        batch = index.search(queries, limit=101)
        assert all(len({score for _, score in found}) == 1 for found in batch)
        assert [index.search(queries[[row]], limit=101)[0] for row in range(70)] == batch

    def test_fewer_are_returned_where_fewer_are_held(self) -> None:
        assert len(self.index(["a", "b", "c"], AXES).search(AXES[:1], limit=10)[0]) == 3

    def test_an_empty_index_finds_nothing(self) -> None:
        index = create(self.kind, dim=3)
        assert len(index) == 0
        assert index.search(AXES[:2], limit=5) == [[], []]

    def test_no_query_gives_no_answer(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        assert index.search(np.zeros((0, 3), dtype=np.float32), limit=5) == []

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_refused(self, bad: float) -> None:
        vectors = AXES.copy()
        vectors[1, 1] = bad
        index = create(self.kind, dim=3)
        with pytest.raises(ValueError, match="1 of 3 vectors are not finite, the first at row 1"):
            index.add(["a", "b", "c"], vectors)
        with pytest.raises(ValueError, match="not finite"):
            self.index(["a", "b", "c"], AXES).search(vectors, limit=1)

    def test_an_item_is_added_once(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        with pytest.raises(ValueError, match="holds item 'b' already"):
            index.add(["d", "b"], AXES[:2])
        with pytest.raises(ValueError, match="holds item 'e' already"):
            index.add(["e", "e"], AXES[:2])
        assert len(index) == 3

    def test_a_wrong_shape_is_refused(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        with pytest.raises(ValueError, match=r"expected vectors of shape \[N, 3\], got \[1, 2\]"):
            index.search(np.zeros((1, 2), dtype=np.float32), limit=1)
        with pytest.raises(ValueError, match="2 item ids came with 1 vectors"):
            index.add(["d", "e"], AXES[:1])

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
            self.index(["a", "b", "c"], AXES).search(AXES[:1], limit=0)

    def test_items_added_later_are_found(self) -> None:
        index = self.index(["a", "b"], AXES[:2])
        index.add(["c"], AXES[2:])
        assert index.search(AXES[2:], limit=1) == [[("c", 1.0)]]

    def test_the_items_are_named_in_the_order_of_rows(self) -> None:
        index = self.index(["b", "c"], AXES[:2])
        index.add(["a"], AXES[2:])
        assert list(index.item_ids) == ["b", "c", "a"]

    @pytest.mark.parametrize("share", [0.003, 0.05, 0.5, 0.99])
    def test_only_what_is_allowed_is_found_and_as_much_as_there_is(self, share: float) -> None:
        item_ids, vectors, queries = world()
        allowed = np.random.default_rng(3).random(len(vectors)) < share
        index = self.index(item_ids, vectors, dim=24)
        names = {one for one, is_allowed in zip(item_ids, allowed, strict=True) if is_allowed}
        found = index.search(queries, limit=10, allowed_N=allowed)
        for pairs in found:
            assert len(pairs) == min(10, len(names))
            assert {one for one, _ in pairs} <= names
        some = ExactIndex(dim=24)
        some.add([one for one in item_ids if one in names], vectors[allowed])
        greatest = index.efforts[-1] if index.efforts else None
        found = index.search(queries, limit=10, allowed_N=allowed, effort=greatest)
        assert recall(found, some.search(queries, limit=10)) >= self.least_recall
        assert [
            index.search(queries[[row]], limit=10, allowed_N=allowed, effort=greatest)[0]
            for row in range(len(queries))
        ] == found

    def test_where_nothing_is_allowed_nothing_is_found(self) -> None:
        index = self.index(["a", "b", "c"], AXES)
        nothing = np.zeros(3, dtype=np.bool_)
        assert index.search(AXES[:2], limit=2, allowed_N=nothing) == [[], []]

    @pytest.mark.parametrize("bad", [np.ones(2, dtype=np.bool_), np.ones(3, dtype=np.int64)])
    def test_a_mask_that_does_not_fit_is_refused(self, bad: Any) -> None:
        index = self.index(["a", "b", "c"], AXES)
        with pytest.raises(ValueError, match="expected 3 booleans that say which items"):
            index.search(AXES[:1], limit=1, allowed_N=bad)

    def test_an_effort_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="effort must be at least 1, got 0"):
            self.index(["a", "b", "c"], AXES).search(AXES[:1], limit=1, effort=0)

    def test_it_finds_what_it_promises_and_scores_truly(self) -> None:
        item_ids, vectors, queries = world()
        index, exact = self.index(item_ids, vectors, dim=24), ExactIndex(dim=24)
        exact.add(item_ids, vectors)
        greatest = index.efforts[-1] if index.efforts else None
        found = index.search(queries, limit=10, effort=greatest)
        assert recall(found, exact.search(queries, limit=10)) >= self.least_recall
        true = [dict(pairs) for pairs in exact.search(queries, limit=len(item_ids))]
        for pairs, scores in zip(index.search(queries, limit=10), true, strict=True):
            assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
            assert all(scores[item_id] == score for item_id, score in pairs)

    def test_the_same_items_make_an_index_that_answers_alike(self) -> None:
        item_ids, vectors, queries = world()
        one, other = (self.index(item_ids, vectors, dim=24) for _ in range(2))
        assert one.search(queries, limit=10) == other.search(queries, limit=10)

    def test_the_effort_is_one_of_those_offered_and_survives_being_saved(
        self, tmp_path: Path
    ) -> None:
        item_ids, vectors, _ = world()
        index = self.index(item_ids, vectors, dim=24)
        assert list(index.efforts) == sorted(set(index.efforts))
        assert index.effort in (index.efforts or [0])
        index.effort = index.efforts[0] if index.efforts else 0
        index.save(tmp_path / "index")
        loaded = load(self.kind, tmp_path / "index")
        assert (loaded.effort, loaded.efforts) == (index.effort, index.efforts)

    def test_a_loaded_index_answers_as_the_saved_one(self, tmp_path: Path) -> None:
        random = np.random.default_rng(2)
        vectors = normalize(random.normal(size=(300, 20)))
        index = self.index([f"item {row}" for row in range(300)], vectors, dim=20)
        path = tmp_path / "new folder" / "index"
        index.save(path)
        loaded = load(self.kind, path)
        queries = normalize(random.normal(size=(5, 20)))
        assert loaded.search(queries, limit=7) == index.search(queries, limit=7)
        assert (loaded.dim, len(loaded)) == (20, 300)
        loaded.add(["one more"], vectors[:1])
        with pytest.raises(ValueError, match="already"):
            loaded.add(["item 3"], vectors[:1])
        assert [entry.name for entry in path.parent.iterdir()] == ["index"]

    def test_an_empty_index_survives_being_saved(self, tmp_path: Path) -> None:
        create(self.kind, dim=3).save(tmp_path / "index")
        loaded = load(self.kind, tmp_path / "index")
        assert (loaded.dim, len(loaded)) == (3, 0)

    def test_a_missing_file_says_what_to_run(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableIndex, match="is missing: run `sommelier index`"):
            load(self.kind, tmp_path / "index")

    @pytest.mark.parametrize("keep", [0, 5, 60, 400])
    def test_a_cut_file_says_what_to_run(self, tmp_path: Path, keep: int) -> None:
        path = tmp_path / "index"
        vectors = np.random.default_rng(0).normal(size=(30, 8))
        self.index([str(row) for row in range(30)], vectors, dim=8).save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(UnusableIndex, match=r"is damaged .*run `sommelier index`"):
            load(self.kind, path)

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        other = "exact" if self.kind == "flat" else "flat"
        create(other, dim=3).save(tmp_path / "index")
        with pytest.raises(UnusableIndex, match="run `sommelier index`"):
            load(self.kind, tmp_path / "index")
