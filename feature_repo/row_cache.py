"""A key in, the Python object held for it out; bounded in bytes, and some keys only for a while.

The object that nobody asked for the longest leaves first. Knows nothing of stores and of threads:
whoever shares it locks it.
"""

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Any

from feature_repo.base import CacheCounts

MISSING = object()  # an absent row is held as None


class RowCache:
    """Objects by key, the least recently asked for first."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[Hashable, tuple[Any, int, float]] = OrderedDict()
        self._num_hits = 0
        self._num_misses = 0
        self.num_bytes = 0

    @property
    def counts(self) -> CacheCounts:
        """How often an object was there; a look that none could satisfy is not counted."""
        return CacheCounts(
            num_hits=self._num_hits,
            num_misses=self._num_misses,
            num_entries=len(self._rows),
            num_bytes=self.num_bytes,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Hashable, *, since: float) -> Any:
        """The object; MISSING where there is none that was put at `since` or later."""
        row = self._rows.get(key)
        if row is None or row[2] < since:
            self._num_misses += since < inf
            return MISSING
        self._num_hits += 1
        self._rows.move_to_end(key)
        return row[0]

    def put(self, key: Hashable, value: Any, *, num_bytes: int, now: float) -> None:
        """Hold the object, in place of the key's earlier one, and let others go to make room."""
        self.forget(key)
        if num_bytes > self._max_bytes:
            return
        self._rows[key] = (value, num_bytes, now)
        self.num_bytes += num_bytes
        while self.num_bytes > self._max_bytes:
            _, (_, freed, _) = self._rows.popitem(last=False)
            self.num_bytes -= freed

    def forget(self, key: Hashable) -> None:
        """Give up the object, if there is one."""
        row = self._rows.pop(key, None)
        if row is not None:
            self.num_bytes -= row[1]

    def clear(self) -> None:
        """Give up all of them."""
        self._rows.clear()
        self.num_bytes = 0
