"""Records in, one append-only file out, and every whole record back after a crash.

    the line MAGIC, then records: length (8 bytes, big-endian), CRC-32 of the length (4 bytes),
    SHA-256 of the content (32 bytes), content

The first record says which index the others were laid over. A record is on the disk when `append`
returns. The last one may be torn, where the machine stopped while it was written: it is dropped
with a message, for whoever wrote it was never told that it was kept. Damage anywhere else is an
error. One process has the file at a time; a second is told so.
"""

import fcntl
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from retrieval.base import UnusableIndex
from retrieval.tensor_file import write_bytes

MAGIC = b"sommelier journal 1\n"
HEAD_BYTES = 8 + 4 + 32
MAX_BYTES = 1 << 30  # of one record

log = logging.getLogger(__name__)


class Journal:
    """An open file of records. Not to be shared by threads without a lock."""

    def __init__(self, path: Path, lock: IO[bytes]) -> None:
        """Read the file; `open` is how to get here."""
        self.path = path
        self._lock = lock
        self.index, self.records, end = _read(path)
        self._file = path.open("r+b", buffering=0)
        self._end = end
        self._cut()

    @classmethod
    def open(cls, path: Path, *, index: str) -> Self:
        """The file's records, with the digest of the index that they were laid over.

        Args:
            path: The file; it is made where there is none.
            index: The digest of the index that a new file is laid over.

        Raises:
            UnusableIndex: the file is damaged.
            ValueError: another process has it open.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists():
                write_bytes(path, _content(index, []))
            return cls(path, lock)
        except BlockingIOError as error:
            lock.close()
            raise ValueError(
                f"another process has {path} open: only one may change what is searched"
            ) from error
        except BaseException:
            lock.close()
            raise

    def append(self, content: bytes) -> None:
        """Write one record, which is kept when this returns.

        Raises:
            ValueError: it is too large, or the disk is full; then nothing is kept of it.
        """
        if len(content) > MAX_BYTES:
            raise ValueError(
                f"a change of {len(content):,} bytes is over the {MAX_BYTES:,} that a journal "
                f"takes at once: make it in parts"
            )
        record = _record(content)
        try:
            self._file.seek(self._end)
            rest = memoryview(record)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._cut()
            raise ValueError(f"{self.path} cannot be written ({error.strerror})") from error
        self._end += len(record)

    def restart(self, *, index: str, records: Sequence[bytes]) -> None:
        """Replace all records, at once, by those laid over another index."""
        content = _content(index, records)
        write_bytes(self.path, content)
        self._file.close()
        self._file = self.path.open("r+b", buffering=0)
        self._end = len(content)
        self.index, self.records = index, list(records)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._lock.close()

    def _cut(self) -> None:
        """Nothing lies behind the last whole record."""
        self._file.truncate(self._end)


def _record(content: bytes) -> bytes:
    length = len(content).to_bytes(8, "big")
    crc = zlib.crc32(length).to_bytes(4, "big")
    return length + crc + hashlib.sha256(content).digest() + content


def _content(index: str, records: Sequence[bytes]) -> bytes:
    head = json.dumps({"index": index}).encode()
    return MAGIC + b"".join(_record(one) for one in (head, *records))


def _read(path: Path) -> tuple[str, list[bytes], int]:
    """The index, the records and where the last whole one ends."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise UnusableIndex(_damaged(path, 0))
        records: list[bytes] = []
        end = len(MAGIC)
        while end < size:
            content = _next(file, path, end, size)
            if content is None:
                log.warning(
                    "%s: the last record, %d bytes that were being written when the process "
                    "stopped, is dropped",
                    path,
                    size - end,
                )
                break
            records.append(content)
            end += HEAD_BYTES + len(content)
    try:
        return str(json.loads(records[0])["index"]), records[1:], end
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UnusableIndex(_damaged(path, len(MAGIC))) from error


def _next(file: IO[bytes], path: Path, start: int, size: int) -> bytes | None:
    """The record that begins at `start`; None where it is torn."""
    head = file.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    length = int.from_bytes(head[:8], "big")
    if zlib.crc32(head[:8]) != int.from_bytes(head[8:12], "big"):
        if _is_blank(head, file):  # the file grew, and what was to be written did not come
            return None
        raise UnusableIndex(_damaged(path, start))
    if length > size - start - HEAD_BYTES:
        return None
    content = file.read(length)
    if hashlib.sha256(content).digest() == head[12:]:
        return content
    if start + HEAD_BYTES + length == size:
        return None
    raise UnusableIndex(_damaged(path, start))


def _is_blank(head: bytes, file: IO[bytes]) -> bool:
    blocks = iter(lambda: file.read(1 << 20), b"")
    return not any(head) and not any(block.strip(b"\0") for block in blocks)


def _damaged(path: Path, place: int) -> str:
    return (
        f"{path} is damaged at byte {place}: restore it, or move it away, make an index of all "
        f"items and change again what the journal held"
    )
