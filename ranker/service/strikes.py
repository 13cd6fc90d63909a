"""Requests whose workers died in, those that are not tried any more out.

A request that ends whoever computes it (memory runs out, native code fails) is one that callers try
again: they are told to. Without a bound it would take one worker after the other along, and every
caller's requests with them. So one that ended several workers in a row, with no answer in between,
is refused for a while. A worker that dies of something else costs its request one try.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from ranker.service import statuses

MOST = 3  # workers that one request may end in a row
SET_ASIDE_S = 600.0  # from the last of them on
MOST_REQUESTS = 1_000  # that are remembered


class Strikes:
    """How many workers each of the last such requests ended. Used from one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def check(self, request: Callable[[], bytes]) -> None:
        """Whether it may be tried.

        Args:
            request: Gives what makes it equal to another one; not asked while all is well.

        Raises:
            StatusError: INTERNAL, REQUEST_SET_ASIDE.
        """
        if not self._last:
            return
        num, at = self._last.get(_key(request()), (0, 0.0))
        left_s = at + SET_ASIDE_S - self._clock()
        if num >= MOST and left_s > 0:
            raise statuses.set_aside(num_workers=num, seconds=left_s)

    def died(self, request: Callable[[], bytes]) -> None:
        """The worker that computed it is gone."""
        key, now = _key(request()), self._clock()
        num, at = self._last.pop(key, (0, now))
        self._last[key] = (1 if now > at + SET_ASIDE_S else num + 1, now)
        if len(self._last) > MOST_REQUESTS:
            self._last.popitem(last=False)

    def answered(self, request: Callable[[], bytes]) -> None:
        """It was, so it is not what workers die of."""
        if self._last:
            self._last.pop(_key(request()), None)


def _key(request: bytes) -> bytes:
    return hashlib.blake2b(request, digest_size=16).digest()
