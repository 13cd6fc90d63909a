"""A generation's finished parts in, the same linked, hashed and brought to the disk out."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

# What a link may say where a copy would do: another file system, one without links, or not ours.
UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def link(source: str, target: str) -> None:
    """The same file under one more name; a copy of it where that cannot be."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        shutil.copy2(source, target)


def sync(folder: Path) -> None:
    """Bring every file to the disk, so that CURRENT never survives a power cut alone."""
    for path in [folder, *folder.rglob("*")]:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def digests(folder: Path) -> dict[str, str]:
    """Of every file below a folder, by its path there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def sha256(path: Path) -> str:
    """Of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
