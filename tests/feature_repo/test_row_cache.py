import math

from feature_repo.base import CacheCounts
from feature_repo.row_cache import MISSING, RowCache


def test_an_object_is_held_and_none_is_an_object() -> None:
    cache = RowCache(max_bytes=100)
    cache.put("a", "row", num_bytes=1, now=0)
    cache.put("b", None, num_bytes=1, now=0)
    assert cache.get("a", since=0) == "row"
    assert cache.get("b", since=0) is None
    assert cache.get("c", since=0) is MISSING


def test_an_object_put_before_the_moment_asked_for_is_missing() -> None:
    cache = RowCache(max_bytes=100)
    cache.put("a", "row", num_bytes=1, now=5)
    assert cache.get("a", since=5) == "row"
    assert cache.get("a", since=5.1) is MISSING
    cache.put("a", "newer", num_bytes=1, now=6)
    assert cache.get("a", since=5.1) == "newer"


def test_it_counts_how_often_an_object_was_there_but_no_look_in_vain() -> None:
    cache = RowCache(max_bytes=100)
    cache.put("a", "row", num_bytes=7, now=5)
    cache.get("a", since=5)
    cache.get("a", since=6)
    cache.get("b", since=0)
    cache.get("a", since=math.inf)
    counts = CacheCounts(num_hits=1, num_misses=2, num_entries=1, num_bytes=7)
    assert cache.counts == counts
    assert counts + counts == CacheCounts(num_hits=2, num_misses=4, num_entries=2, num_bytes=14)


def test_the_object_asked_for_the_longest_ago_leaves_first() -> None:
    cache = RowCache(max_bytes=3)
    for key in "abc":
        cache.put(key, key, num_bytes=1, now=0)
    cache.get("a", since=0)
    cache.put("d", "d", num_bytes=1, now=0)
    assert [key for key in "abcd" if cache.get(key, since=0) is not MISSING] == ["a", "c", "d"]


def test_what_is_held_never_exceeds_the_bytes() -> None:
    cache = RowCache(max_bytes=10)
    for n in range(50):
        cache.put(n % 17, n, num_bytes=n % 5, now=0)
        assert cache.num_bytes <= 10
    cache.put("large", "large", num_bytes=11, now=0)
    assert cache.get("large", since=0) is MISSING


def test_bytes_are_given_back() -> None:
    cache = RowCache(max_bytes=10)
    cache.put("a", "a", num_bytes=4, now=0)
    cache.put("a", "a", num_bytes=3, now=0)
    cache.put("b", "b", num_bytes=2, now=0)
    assert cache.num_bytes == 5
    cache.forget("a")
    cache.forget("never seen")
    assert cache.num_bytes == 2
    cache.clear()
    assert (cache.num_bytes, len(cache)) == (0, 0)
