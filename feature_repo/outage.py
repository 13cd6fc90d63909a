"""Answers and failures of a server in, whether it is down and may be asked again out.

While a server is down, one caller asks it now and then and all others are told at once: a server
that does not answer takes each caller's patience, and one that comes back need not bear them all.
"""

import time
from threading import Lock

ASK_AGAIN_S = 1.0


class Outage:
    """Of one server; safe to share between threads."""

    def __init__(self, *, ask_again_s: float = ASK_AGAIN_S) -> None:
        """A server that is up; while it is down it is asked once in `ask_again_s`."""
        self._ask_again_s = ask_again_s
        self._lock = Lock()
        self._error: Exception | None = None
        self._next = 0.0

    @property
    def error(self) -> Exception | None:
        """What it failed with; None while it is up."""
        return self._error

    def may_ask(self) -> bool:
        """Whether this caller is to ask the server, which ends in `began` or `ended`."""
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
