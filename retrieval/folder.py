"""A folder made beside its final place in, the folder in that place out: whole or not at all.

Where an older one is in the way, it is moved aside first and deleted last.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from retrieval.base import REPAIR, UnusableIndex


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `folder` unless something is raised."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def digests(folder: Path) -> dict[str, str]:
    """Each file's name -> the SHA-256 of its content."""
    return {path.name: _sha256(path) for path in sorted(folder.iterdir())}


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Compare the files with their digests.

    Raises:
        UnusableIndex: one is missing or differs; the first is named.
    """
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise UnusableIndex(f"{folder / name} is missing: {REPAIR}")
        if _sha256(folder / name) != digest:
            raise UnusableIndex(f"{folder / name} is damaged (its SHA-256 differs): {REPAIR}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
