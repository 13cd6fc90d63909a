"""The cache of prefixes holds the latest ones, within its bytes, for any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402

from feature_repo.base import CacheCounts  # noqa: E402
from ranker.prefixes import Prefix, PrefixCache, PrefixKey, prefix_key  # noqa: E402


def prefix(num_tokens: int = 4, *, layers: int = 2) -> Prefix:
    """Of 2 groups of 8: 128 bytes a token and layer."""
    return Prefix(
        keys=tuple(torch.randn(1, 2, num_tokens, 8) for _ in range(layers)),
        values=tuple(torch.randn(1, 2, num_tokens, 8) for _ in range(layers)),
    )


def key(name: str) -> PrefixKey:
    return prefix_key("generation", np.frombuffer(name.ljust(8).encode(), dtype=np.int64))


SIZE = 4 * 2 * 128


def test_a_prefix_knows_its_tokens_and_bytes() -> None:
    assert (prefix(5).num_tokens, prefix().num_bytes) == (5, SIZE)


def test_what_was_put_is_found_and_counted() -> None:
    cache, one = PrefixCache(10 * SIZE), prefix()
    assert cache.get(key("one")) is None
    cache.put(key("one"), one)
    assert cache.get(key("one")) is one
    assert cache.get(key("two")) is None
    assert (cache.num_hits, cache.num_misses, len(cache), cache.num_bytes) == (1, 2, 1, SIZE)
    counts = CacheCounts(num_hits=1, num_misses=2, num_entries=1, num_bytes=SIZE)
    assert cache.counts == counts


def test_the_one_unused_for_longest_leaves_first() -> None:
    cache = PrefixCache(2 * SIZE)
    for name in ("one", "two"):
        cache.put(key(name), prefix())
    cache.get(key("one"))
    cache.put(key("three"), prefix())
    assert [cache.get(key(name)) is not None for name in ("one", "two", "three")] == [
        True,
        False,
        True,
    ]
    assert cache.num_bytes == 2 * SIZE


def test_a_large_prefix_displaces_several_and_one_too_large_none() -> None:
    cache = PrefixCache(3 * SIZE)
    for name in ("one", "two", "three"):
        cache.put(key(name), prefix())
    cache.put(key("huge"), prefix(13))
    assert len(cache) == 3
    cache.put(key("large"), prefix(8))
    assert [cache.get(key(name)) is not None for name in ("two", "three", "large")] == [
        False,
        True,
        True,
    ]
    assert cache.num_bytes == 3 * SIZE


def test_an_equal_prefix_replaces_the_former() -> None:
    cache, second = PrefixCache(3 * SIZE), prefix(8)
    cache.put(key("one"), prefix())
    cache.put(key("one"), second)
    assert cache.get(key("one")) is second
    assert (len(cache), cache.num_bytes) == (1, 2 * SIZE)


def test_a_limit_of_zero_keeps_nothing() -> None:
    cache = PrefixCache(0)
    cache.put(key("one"), prefix())
    assert cache.get(key("one")) is None
    assert cache.num_bytes == 0


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes or more, got -1"):
        PrefixCache(-1)


def test_what_was_cleared_is_gone_and_its_bytes_are_free() -> None:
    cache = PrefixCache(SIZE)
    cache.put(key("one"), prefix())
    cache.clear()
    assert (cache.get(key("one")), cache.num_bytes) == (None, 0)
    cache.put(key("two"), prefix())
    assert len(cache) == 1


def test_keys_differ_with_generation_codes_and_their_order() -> None:
    codes = np.array([1, 2, 3])
    assert prefix_key("a", codes) == prefix_key("a", codes.copy())
    others = [("b", codes), ("a", codes[::-1]), ("a", codes[:2]), ("a", codes + (1 << 40))]
    assert prefix_key("a", codes) not in {prefix_key(*other) for other in others}


def test_threads_lose_no_byte_of_the_count() -> None:
    cache = PrefixCache(5 * SIZE)
    made = [prefix(1 + n % 7) for n in range(20)]

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for n in random.integers(len(made), size=400):
            if cache.get(key(str(n))) is None:
                cache.put(key(str(n)), made[n])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    held = [one for n in range(20) if (one := cache.get(key(str(n)))) is not None]
    assert 0 < cache.num_bytes == sum(one.num_bytes for one in held) <= 5 * SIZE
    assert cache.num_hits + cache.num_misses == 4 * 400 + 20
