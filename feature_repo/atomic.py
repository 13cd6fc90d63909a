"""Text in, a whole file out: replaced at once or not at all, by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path`; a reader finds the old text or the new one, never a part."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """As `replace_text`, for what is no text."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # left where the disk is full


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name; both are in one folder, and survive a power cut."""
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every other process (and thread) that asks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go
