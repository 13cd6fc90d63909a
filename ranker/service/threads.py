"""Work in, done by a thread of its own, one piece after the other.

An executor makes a future of every piece and finds a thread for it under several locks, which
costs a request more than its checks. Here whoever hands work over knows that the thread is free,
and the work itself says what came of it.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger(__name__)


class WorkerThread:
    """A thread that waits for work until it is closed; it starts with its first work."""

    def __init__(self, name: str) -> None:
        self._works = SimpleQueue[Callable[[], None] | None]()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def begin(self, work: Callable[[], None]) -> None:
        """Does this once what it was given before is done; what it raises is logged."""
        if self._thread.ident is None:
            self._thread.start()
        self._works.put(work)

    def close(self) -> None:
        """Takes no more work, and returns once all is done; blocks meanwhile."""
        if self._thread.ident is not None:
            self._works.put(None)
            self._thread.join()

    def _live(self) -> None:
        while (work := self._works.get()) is not None:
            try:
                work()
            except BaseException:  # the thread must live on: nobody would notice its end
                log.exception("work of %s failed", self._thread.name)
            del work  # and with it the request, while the thread waits for the next
