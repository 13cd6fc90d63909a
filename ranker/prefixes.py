"""A user's read history in, its keys and values out, kept for the user's next request.

A returning user's prefix need not be computed again: `ranker.packing.read` makes a `Prefix`, a
`PrefixCache` keeps the latest ones by their bytes, and `score_packed` takes one in the place of the
embedded prefix. A cold request goes the same way (the prefix alone first, then the branches behind
its keys and values), so that warm and cold scores are equal bit for bit:

    key = prefix_key(generation_id, codes)            # codes as `Prompter.prefix` writes them
    prefix = cache.get(key)
    if prefix is None:
        prefix = read(llm, embed(codes))
        cache.put(key, prefix)
    scores = score_packed(llm, prefix, branches, head)

Nothing here changes a prefix: a pass reads its tensors, and `DynamicCache`, which every pass would
change, is not used.

Shape legend: G groups (key heads), P prefix tokens, E head dimensions.
"""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from feature_repo.base import CacheCounts  # noqa: E402

PrefixKey = tuple[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What every layer of one LLM remembers of a prefix. Not to be changed."""

    keys: tuple[Tensor, ...]
    """For each layer [1, G, P, E], contiguous."""
    values: tuple[Tensor, ...]

    @property
    def num_tokens(self) -> int:
        """P."""
        return int(self.keys[0].shape[2])

    @property
    def num_bytes(self) -> int:
        """Of all its tensors."""
        return sum(one.numel() * one.element_size() for one in (*self.keys, *self.values))


def prefix_key(identity: str, codes: NDArray[np.int64]) -> PrefixKey:
    """Under what a prefix is kept: equal keys only for equal prefixes of equal weights.

    Args:
        identity: Of everything that codes are embedded and read with: the generation's id, where
            it pins LLM, adapter and item tokens.
        codes: The exact prefix, [P].
    """
    return identity, hashlib.sha256(np.ascontiguousarray(codes, dtype="<i8").tobytes()).digest()


class PrefixCache:
    """The prefixes that were used last, as many as fit. Any number of threads may use it."""

    def __init__(self, limit_bytes: int) -> None:
        """An empty cache.

        Args:
            limit_bytes: Of all prefixes together; the one unused for longest leaves first, and one
                that is larger alone is not kept. 0 keeps nothing.

        Raises:
            ValueError: the limit is negative.
        """
        if limit_bytes < 0:
            raise ValueError(f"a prefix cache holds 0 bytes or more, got {limit_bytes}")
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[PrefixKey, Prefix] = OrderedDict()
        self._num_bytes = 0
        self._num_hits = 0
        self._num_misses = 0

    def get(self, key: PrefixKey) -> Prefix | None:
        """The prefix, which counts as used now; None where it is not held."""
        with self._lock:
            prefix = self._held.get(key)
            if prefix is None:
                self._num_misses += 1
                return None
            self._num_hits += 1
            self._held.move_to_end(key)
            return prefix

    def put(self, key: PrefixKey, prefix: Prefix) -> None:
        """Keep a prefix; whoever comes second with an equal one replaces it."""
        num_bytes = prefix.num_bytes
        if num_bytes > self.limit_bytes:
            return
        with self._lock:
            former = self._held.pop(key, None)
            self._num_bytes += num_bytes - (0 if former is None else former.num_bytes)
            self._held[key] = prefix
            while self._num_bytes > self.limit_bytes:
                self._num_bytes -= self._held.popitem(last=False)[1].num_bytes

    def clear(self) -> None:
        """Forget all prefixes; the counts go on."""
        with self._lock:
            self._held.clear()
            self._num_bytes = 0

    def __len__(self) -> int:
        """How many prefixes are held."""
        with self._lock:
            return len(self._held)

    @property
    def num_bytes(self) -> int:
        """Of the prefixes that are held."""
        with self._lock:
            return self._num_bytes

    @property
    def counts(self) -> CacheCounts:
        """All of it at one moment."""
        with self._lock:
            return CacheCounts(
                num_hits=self._num_hits,
                num_misses=self._num_misses,
                num_entries=len(self._held),
                num_bytes=self._num_bytes,
            )

    @property
    def num_hits(self) -> int:
        """How often `get` found a prefix."""
        with self._lock:
            return self._num_hits

    @property
    def num_misses(self) -> int:
        """How often it did not."""
        with self._lock:
            return self._num_misses
