"""Answers and failures of a server in, whether it is down and is to be asked again out.

While a server is down it is asked now and then, by one, and all others are told at once: a server
that does not answer takes each caller's patience, and one that comes back need not bear them all.
"""

import time
from threading import Lock

ASK_AGAIN_S = 1.0


class Outage:
    """Of one server; safe to share between threads."""

    def __init__(self, *, ask_again_s: float | None = None) -> None:
        """A server that is up; while it is down it is asked once in so long, or ASK_AGAIN_S."""
        self._ask_again_s = ASK_AGAIN_S if ask_again_s is None else ask_again_s
        self._lock = Lock()
        self._error: Exception | None = None
        self._next = 0.0

    @property
    def error(self) -> Exception | None:
        """What it failed with; None while it is up."""
        return self._error

    def is_to_be_asked(self) -> bool:
        """Whether whoever asks this is to ask the server: it is up, or their turn has come."""
        if self._error is None:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._ask_again_s
            return True

    def began(self, error: Exception) -> None:
        """The server failed."""
        with self._lock:
            self._error, self._next = error, time.monotonic() + self._ask_again_s

    def ended(self) -> None:
        """The server answered."""
        self._error = None
