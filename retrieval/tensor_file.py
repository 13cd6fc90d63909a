"""Named arrays and ids in, one safetensors file out, replaced atomically; and back.

Nothing in such a file can run code. Ids travel beside the arrays as JSON bytes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialize

from retrieval.base import REPAIR, UnusableIndex

IDS = "item_ids"


def write(path: Path, *, item_ids: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ids and arrays to one file that appears whole or not at all."""
    assert IDS not in arrays
    ids = np.frombuffer(json.dumps(list(item_ids)).encode(), dtype=np.uint8)
    tensors = {IDS: ids, **{name: np.ascontiguousarray(array) for name, array in arrays.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, serialize(tensors))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, even if the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, *, names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The ids and arrays that `write` wrote.

    Raises:
        UnusableIndex: the file is missing, damaged, or lacks one of `names`.
    """
    try:
        tensors = parse(path.read_bytes())
        item_ids = json.loads(tensors.pop(IDS).tobytes())
    except FileNotFoundError as error:
        raise UnusableIndex(f"{path} is missing: {REPAIR}") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
    missing = sorted(set(names) - set(tensors))
    if missing or not isinstance(item_ids, list):
        raise UnusableIndex(f"{path} is damaged (it lacks {missing or 'a list of ids'}): {REPAIR}")
    return item_ids, tensors
