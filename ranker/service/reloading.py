"""Files in, what was last read well from them out: how certificates and callers are exchanged.

A file that is broken while the server runs changes nothing: what was read before stays, and the
log says so once. Whether files changed is looked at by their identity, size and times, at most
once in a while, so that asking costs next to nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Read = TypeVar("Read")

LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)


class Reloading(Generic[Read]):
    """What some files say, read anew when they change; safe in several threads.

    Raises:
        ValueError: when made, where `read` raises it or a file cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], Read],
        *,
        what: str,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Reads at once.

        Args:
            paths: The files that `read` reads.
            read: Reads and checks them; a ValueError or an OSError says that they are no good.
            what: What they hold, for the log.
            look_every_s: How often to look whether they changed.
        """
        self._paths = tuple(paths)
        self._read = read
        self._what = what
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        # Seen before it is read: a change in between is then read again, not missed.
        self._seen = self._look()
        try:
            self._current = read()
        except OSError as error:
            raise ValueError(f"{what}: {error.filename}: {error.strerror}") from error
        self._looked_at = time.monotonic()

    def current(self) -> Read:
        """What the files said when they last were good."""
        is_time = time.monotonic() - self._looked_at >= self._look_every_s
        # Whoever comes while another reads is content with what is there.
        if is_time and self._lock.acquire(blocking=False):
            try:
                self._follow()
            finally:
                self._lock.release()
        return self._current

    def _follow(self) -> None:
        seen = self._look()
        self._looked_at = time.monotonic()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._current = self._read()
        except (ValueError, OSError) as error:
            log.error("%s changed and cannot be used; the former stay: %s", self._what, error)
        else:
            log.info("%s were read anew", self._what)

    def _look(self) -> tuple[object, ...]:
        looks: list[object] = []
        for path in self._paths:
            try:
                at = path.stat()
            except OSError as error:
                looks.append(error.errno)
            else:
                looks.append((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
        return tuple(looks)
