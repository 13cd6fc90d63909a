"""Passes of the LLM and how long they took in, how long the next is likely to take out.

Whoever must answer by a deadline begins nothing that is likely to outlast it. A machine that was
slow for a moment must not be held slow for good, though: what is never begun is never measured.
So only the recent past counts, and where there is none, the next pass is begun and teaches.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

NUM_PASSES = 32
MOST_AGE_S = 30.0
SHARE = 0.9  # of the remembered passes that were no slower than what is foreseen


class Pace:
    """Seconds a token of one worker's LLM, of its latest passes. Any thread may use it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is known yet; `clock` tells seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._passes: deque[tuple[float, float]] = deque(maxlen=NUM_PASSES)

    def learn(self, *, num_tokens: int, seconds: float) -> None:
        """A pass over so many tokens took so long; one over none says nothing."""
        if num_tokens > 0:
            with self._lock:
                self._passes.append((self._clock(), seconds / num_tokens))

    def likely_s(self, num_tokens: int) -> float:
        """How long so many tokens take, at the pace that nine in ten recent passes kept.

        0 where no recent pass is known: whoever asks is the one to try.
        """
        since = self._clock() - MOST_AGE_S
        with self._lock:
            paces = sorted(pace for when, pace in self._passes if when >= since)
        if not paces:
            return 0.0
        return num_tokens * paces[math.ceil(SHARE * len(paces)) - 1]
