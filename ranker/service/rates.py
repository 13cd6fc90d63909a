"""A caller's name in, leave to go on or the seconds to wait out: one token bucket a caller.

A bucket holds at most `burst` requests and is filled with `requests_per_s`; it starts full. Time is
the monotonic clock's, so that setting the machine's clock neither grants nor takes anything.
"""

import threading
import time
from dataclasses import dataclass

from ranker.service import statuses
from ranker.service.callers import Rate

MOST_BUCKETS = 10_000  # certificates may bear any number of names


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Rates:
    """The buckets of all callers; safe in several threads."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._buckets)

    def take(self, caller: str, rate: Rate, *, now: float | None = None) -> None:
        """One request of this caller; `now` in seconds of a clock that never goes back.

        Raises:
            StatusError: RESOURCE_EXHAUSTED, with the time until the next one is granted.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            bucket = self._buckets.get(caller)
            if bucket is None:
                self._make_room()
                bucket = self._buckets[caller] = _Bucket(left=float(rate.burst), at=now)
            now = max(now, bucket.at)  # threads may come in another order than they looked
            gained = (now - bucket.at) * rate.requests_per_s
            bucket.left, bucket.at = min(float(rate.burst), bucket.left + gained), now
            if bucket.left >= 1:
                bucket.left -= 1
                return
            missing_s = (1 - bucket.left) / rate.requests_per_s
        raise statuses.rate_limited(
            caller, requests_per_s=rate.requests_per_s, retry_after_s=missing_s
        )

    def _make_room(self) -> None:
        """Forgets whoever has not asked for the longest time; they begin with a full bucket."""
        if len(self._buckets) >= MOST_BUCKETS:
            quietest = sorted(self._buckets, key=lambda name: self._buckets[name].at)
            for name in quietest[: MOST_BUCKETS // 10]:
                del self._buckets[name]
