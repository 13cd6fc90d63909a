"""A media file in, the digest of its bytes out."""

import hashlib
from pathlib import Path

from embedders.base import BadContent


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        BadContent: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BadContent(
            f"{path}: no such file; put it there or leave the item's path empty"
        ) from error
    except OSError as error:
        raise BadContent(f"{path}: cannot be read ({error.strerror}); mend the file") from error
