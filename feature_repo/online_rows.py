"""Ids in, their online rows as Python objects out: profiles and summaries, histories, preferences.

What is held of an id includes that there is nothing. Rows that grow old are read again once they
have an age; while the online store is down, older ones are good for a stated while.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock, Thread
from typing import Any

from feature_repo.base import CacheCounts, FeatureStore, Profile, Unreachable
from feature_repo.outage import Outage
from feature_repo.row_cache import MISSING, RowCache

ROW_BYTES = 600  # an object of several fields, its key and its place
EVENT_BYTES = 320  # an interaction with an id, a behavior and a time of its own

Decode = Callable[[str, Mapping[str, Any]], Any]
"""An id and its online row, to the object held for it."""


class OnlineRows:
    """The rows of one kind of ids, items or users, in any view; safe to share between threads.

    The lock is held while the cache is looked at, never while the online store is asked: two
    threads that miss the same id may both read it.
    """

    def __init__(
        self,
        feature_store: FeatureStore,
        *,
        max_bytes: int,
        age_s: float = math.inf,
        stale_s: float = 0.0,
    ) -> None:
        """With an empty cache.

        Args:
            feature_store: Who is asked for what is not held.
            max_bytes: What all views' rows may take up together.
            age_s: How old a row may be that `newest` gives out.
            stale_s: How old while the online store does not answer.
        """
        self._feature_store = feature_store
        self._cache = RowCache(max_bytes=max_bytes)
        self._age_s = age_s
        self._stale_s = stale_s
        self._outage = Outage()
        self._views: set[str] = set()
        self._changed_at = -math.inf
        self._num_drops = 0
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """What the rows take up now."""
        with self._lock:
            return self._cache.num_bytes

    @property
    def counts(self) -> CacheCounts:
        """How often a row was held, and how many are."""
        with self._lock:
            return self._cache.counts

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when `newest` last asked it."""
        return self._outage.error is not None

    def read(self, view: str, ids: Sequence[str], decode: Decode) -> list[Any]:
        """Objects in the ids' order, None where there is no row; held until they are dropped."""
        rows, missing = self._held(view, ids, since=-math.inf)
        if missing:
            rows |= self._fetch(view, missing, decode)
        return [rows[one] for one in ids]

    def newest(self, view: str, ids: Sequence[str], decode: Decode, *, what: str) -> list[Any]:
        """As `read`, but none older than `age_s`, or than `stale_s` during an outage.

        Raises:
            Unreachable: the online store does not answer, and what is held of an id, if anything,
                is older than that; the message says of `what`.
        """
        since = max(time.monotonic() - self._age_s, self._changed_at)
        rows, missing = self._held(view, ids, since=since)
        if missing:
            rows |= self._newest(view, missing, decode, what=what)
        return [rows[one] for one in ids]

    def forget(self, ids: Iterable[str]) -> None:
        """Read these ids' rows again, in every view."""
        given = list(ids)
        with self._lock:
            self._num_drops += 1
            for view in self._views:
                for one in given:
                    self._cache.forget((view, one))

    def drop(self) -> None:
        """Read every row again; what an outage may live on is kept for one."""
        with self._lock:
            self._num_drops += 1
            self._changed_at = time.monotonic()
            if not self._stale_s:
                self._cache.clear()

    def _held(
        self, view: str, ids: Iterable[str], *, since: float
    ) -> tuple[dict[str, Any], list[str]]:
        """What is held that was read at `since` or later, and the ids of which there is nothing."""
        with self._lock:
            rows = {one: self._cache.get((view, one), since=since) for one in ids}
        return rows, [one for one, row in rows.items() if row is MISSING]

    def _newest(
        self, view: str, ids: Sequence[str], decode: Decode, *, what: str
    ) -> dict[str, Any]:
        """From the online store, or while that is down what is held and not too old."""
        if self._outage.error is None:
            if rows := self._asked(view, ids, decode):
                return rows
        elif self._outage.is_to_be_asked():
            # Not by a request: who does not answer may take long about it.
            Thread(target=self._asked, args=[view, ids, decode], daemon=True).start()
        rows, missing = self._held(view, ids, since=time.monotonic() - self._stale_s)
        if missing:
            raise Unreachable(
                f"the online store does not answer, and no {what} of {missing[0]!r} is held that "
                f"was read within {self._stale_s:g} s: try again later, or send the {what}"
            ) from self._outage.error
        return rows

    def _asked(self, view: str, ids: Sequence[str], decode: Decode) -> dict[str, Any]:
        """From the online store; empty where that is down."""
        try:
            rows = self._fetch(view, ids, decode)
        except Unreachable as error:
            self._outage.began(error)
            return {}
        self._outage.ended()
        return rows

    def _fetch(self, view: str, ids: Sequence[str], decode: Decode) -> dict[str, Any]:
        """From the online store; held unless something was dropped since."""
        with self._lock:
            num_drops = self._num_drops
        now = time.monotonic()
        stored = self._feature_store.read_online(view, ids)
        rows = {
            one: None if values is None else decode(one, values)
            for one, values in zip(ids, stored, strict=True)
        }
        with self._lock:
            if num_drops == self._num_drops:
                self._views.add(view)
                for one, row in rows.items():
                    self._cache.put((view, one), row, num_bytes=_num_bytes(one, row), now=now)
        return rows


def _num_bytes(one: str, row: Any) -> int:
    """Roughly what an object and its place in the cache take up."""
    size = ROW_BYTES + sys.getsizeof(one)
    if isinstance(row, Profile):
        texts = [row.title, row.description or "", row.category or "", *row.attributes]
        size += sum(map(sys.getsizeof, [*texts, *row.attributes.values()]))
    elif isinstance(row, str):
        size += sys.getsizeof(row)
    elif row is not None:
        size += EVENT_BYTES * len(row)
    return size
