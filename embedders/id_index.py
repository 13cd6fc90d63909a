"""Ids in, the places where each one stood out, in 24 bytes for an id of any length.

A dictionary of a million ids costs some 150 bytes each. Here two sorted columns hold half of the
128-bit digest of an id each: two ids that share it are no more to be expected than two files that
share a sha256.

Shape legend: N places.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16


class IdIndex:
    """Where ids stood in a sequence of them, repeated ones included."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Read the ids once, in order.

        Raises:
            ValueError: an id holds half of a surrogate pair, so no encoding can write it.
        """
        keys = bytearray()
        for each in ids:
            keys += _key(each)
        high_N, low_N = np.frombuffer(keys, dtype="<u8").reshape(-1, 2).T
        # Equal keys stay in their order: the sort is stable.
        self._places_N = np.lexsort((low_N, high_N))
        self._high_N, self._low_N = high_N[self._places_N], low_N[self._places_N]

    def places(self, item_id: str) -> NDArray[np.int64]:
        """The places of an id, counted from 0, ascending; none where it never stood."""
        try:
            high, low = np.frombuffer(_key(item_id), dtype="<u8")
        except UnicodeEncodeError:
            return np.zeros(0, dtype=np.int64)  # such an id could not have been read
        first = np.searchsorted(self._high_N, high, side="left")
        last = np.searchsorted(self._high_N, high, side="right")
        is_equal = self._low_N[first:last] == low
        return np.asarray(self._places_N[first:last][is_equal], dtype=np.int64)

    def is_single(self) -> NDArray[np.bool_]:
        """For each place, in their order, whether its id stood nowhere else, [N]."""
        is_equal = (self._high_N[1:] == self._high_N[:-1]) & (self._low_N[1:] == self._low_N[:-1])
        is_single_N = np.ones(len(self._places_N), dtype=bool)
        is_single_N[self._places_N[1:][is_equal]] = False
        is_single_N[self._places_N[:-1][is_equal]] = False
        return is_single_N

    def by_digest(self) -> NDArray[np.int64]:
        """All places in the order of their ids' digests: a shuffle that is always the same."""
        return self._places_N


def _key(item_id: str) -> bytes:
    return hashlib.blake2b(item_id.encode(), digest_size=KEY_BYTES).digest()
