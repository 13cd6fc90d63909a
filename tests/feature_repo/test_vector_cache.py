from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.vector_cache import ROW_BYTES, VectorCache

DIM = 4
ROOMY = 2**20


def bytes_of(num_ids: int, *, num_views: int = 1) -> int:
    """Room for so many ids."""
    return num_ids * (ROW_BYTES + num_views * (1 + 4 * DIM))


def vectors_of(ids: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that say whose they are."""
    return np.array([[hash(one) % 997] * DIM for one in ids], dtype=np.float32).reshape(-1, DIM)


def put(cache: VectorCache, view: str, ids: Sequence[str], *, absent: Sequence[str] = ()) -> None:
    is_present_N = np.array([one not in absent for one in ids], dtype=np.bool_)
    vectors_ND = vectors_of(ids) * is_present_N[:, None]
    cache.put(view, ids, vectors_ND=vectors_ND, is_present_N=is_present_N)


def take(
    cache: VectorCache, view: str, ids: Sequence[str]
) -> tuple[NDArray[np.float32], list[bool], list[str]]:
    """The vectors, which are present, and the ids of which nothing is known."""
    vectors_ND = np.full((len(ids), DIM), np.nan, dtype=np.float32)
    is_present_N = np.zeros(len(ids), dtype=np.bool_)
    places = cache.take(view, cache.look_up(ids), vectors_ND=vectors_ND, is_present_N=is_present_N)
    return vectors_ND, is_present_N.tolist(), [ids[place] for place in places]


def is_held(cache: VectorCache, one: str) -> bool:
    return not take(cache, "v", [one])[2]


def test_vectors_are_taken_in_the_order_asked_and_as_often() -> None:
    cache = VectorCache(max_bytes=ROOMY)
    put(cache, "v", ["a", "b", "c"])
    vectors_ND, is_present, unknown = take(cache, "v", ["c", "a", "c"])
    np.testing.assert_array_equal(vectors_ND, vectors_of(["c", "a", "c"]))
    assert (is_present, unknown) == ([True] * 3, [])


def test_an_id_known_in_one_view_is_unknown_in_another() -> None:
    cache = VectorCache(max_bytes=ROOMY)
    put(cache, "v", ["a", "b"])
    assert take(cache, "w", ["a"])[2] == ["a"]
    put(cache, "w", ["b"])
    assert take(cache, "w", ["a", "b"])[1:] == ([False, True], ["a"])
    assert take(cache, "v", ["a", "b"])[1:] == ([True, True], [])


def test_absence_is_held_with_a_vector_of_zeros() -> None:
    cache = VectorCache(max_bytes=ROOMY)
    put(cache, "v", ["a", "b"], absent=["b"])
    vectors_ND, is_present, unknown = take(cache, "v", ["b", "a"])
    assert vectors_ND[0].tolist() == [0] * DIM
    assert (is_present, unknown) == ([False, True], [])


def test_what_is_held_never_exceeds_the_bytes() -> None:
    cache = VectorCache(max_bytes=bytes_of(3000))
    for start in range(0, 20_000, 700):
        put(cache, "v", [str(n) for n in range(start, start + 700)])
        assert cache.num_bytes <= bytes_of(3000)
    assert len(cache) == 3000


def test_a_write_beyond_the_room_holds_as_many_as_fit() -> None:
    cache = VectorCache(max_bytes=bytes_of(10))
    put(cache, "v", [str(n) for n in range(100)])
    assert len(cache) == 10
    assert is_held(cache, "0")


def test_without_room_for_a_row_nothing_is_held() -> None:
    cache = VectorCache(max_bytes=0)
    put(cache, "v", ["a"])
    assert len(cache) == 0
    assert not is_held(cache, "a")


def test_what_was_asked_for_outlives_ids_that_came_once() -> None:
    cache = VectorCache(max_bytes=bytes_of(100))
    regulars = [f"regular-{n}" for n in range(50)]
    put(cache, "v", regulars)
    for sweep in range(20):
        assert take(cache, "v", regulars)[2] == []
        put(cache, "v", [f"stranger-{sweep}-{n}" for n in range(25)])
    assert len(cache) == 100


def test_what_nobody_asks_for_any_more_leaves() -> None:
    cache = VectorCache(max_bytes=bytes_of(100))
    old = [f"old-{n}" for n in range(100)]
    put(cache, "v", old)
    take(cache, "v", old)
    put(cache, "v", [f"new-{n}" for n in range(100)])
    assert take(cache, "v", old)[2] == old


def test_a_row_given_to_another_id_tells_nothing_of_the_former_one() -> None:
    cache = VectorCache(max_bytes=bytes_of(1, num_views=2))
    put(cache, "w", ["a"])
    put(cache, "v", ["a"])
    put(cache, "v", ["b"])
    assert is_held(cache, "b")
    assert take(cache, "w", ["b"])[2] == ["b"]
    assert not is_held(cache, "a")


def test_a_view_that_does_not_fit_beside_the_others_begins_anew_with_them() -> None:
    cache = VectorCache(max_bytes=bytes_of(2000))
    put(cache, "v", [str(n) for n in range(2000)])
    wide_ND = np.ones((1, 4000), dtype=np.float32)
    cache.put("wide", ["a"], vectors_ND=wide_ND, is_present_N=np.array([True]))
    assert cache.num_bytes <= bytes_of(2000)
    assert take(cache, "v", ["1999"])[2] == ["1999"]
    put(cache, "v", ["a"])
    assert is_held(cache, "a")


def test_a_forgotten_id_is_unknown_in_every_view_and_its_row_is_used_again() -> None:
    cache = VectorCache(max_bytes=bytes_of(3, num_views=2))
    for view in "vw":
        put(cache, view, ["a", "b", "c"])
    cache.forget(["b", "never seen"])
    assert take(cache, "v", ["a", "b", "c"])[2] == ["b"]
    assert take(cache, "w", ["a", "b", "c"])[2] == ["b"]
    put(cache, "v", ["d"])
    vectors_ND, is_present, unknown = take(cache, "v", ["a", "c", "d"])
    np.testing.assert_array_equal(vectors_ND, vectors_of(["a", "c", "d"]))
    assert (is_present, unknown) == ([True] * 3, [])
    assert len(cache) == 3


def test_clearing_gives_the_bytes_back() -> None:
    cache = VectorCache(max_bytes=ROOMY)
    put(cache, "v", [str(n) for n in range(1000)])
    cache.clear()
    assert cache.num_bytes == 0
    assert take(cache, "v", ["1"])[2] == ["1"]


def test_whatever_is_held_after_any_history_is_what_was_put_last() -> None:
    cache = VectorCache(max_bytes=bytes_of(40, num_views=2))
    random = np.random.default_rng(0)
    versions: dict[tuple[str, str], float] = {}
    for step in range(3000):
        ids = [str(n) for n in random.choice(120, size=random.integers(1, 30), replace=False)]
        view = "vw"[step % 2]
        if step % 7 == 0:
            cache.forget(ids[:3])
        elif step % 3:
            vectors_ND = np.full((len(ids), DIM), step, dtype=np.float32)
            cache.put(
                view, ids, vectors_ND=vectors_ND, is_present_N=np.ones(len(ids), dtype=np.bool_)
            )
            versions |= {(view, one): step for one in ids}
        vectors_ND, is_present, unknown = take(cache, view, ids)
        for one, vector, is_there in zip(ids, vectors_ND, is_present, strict=True):
            assert is_there == (one not in unknown)
            if is_there:
                assert vector.tolist() == [versions[view, one]] * DIM
        assert len(cache) <= 40
