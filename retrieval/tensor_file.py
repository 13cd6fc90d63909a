"""Named arrays and ids in, one safetensors file out, replaced atomically; and back.

Nothing in such a file can run code. Ids travel beside the arrays as JSON bytes. A file is written
array by array and can be mapped into memory, so that no array is there twice.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse

from retrieval.base import REPAIR, UnusableIndex

IDS = "item_ids"
HEADER_SIZE = 8  # bytes that say how long the header is
DTYPES: Mapping[str, str] = {
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
"""numpy's names of types -> those of the format."""


def write(path: Path, *, item_ids: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ids and arrays to one file that appears whole or not at all."""
    assert IDS not in arrays
    ids = np.frombuffer(json.dumps(list(item_ids)).encode(), dtype=np.uint8)
    tensors = {IDS: ids, **{name: np.ascontiguousarray(array) for name, array in arrays.items()}}
    # The widest first, so that every array begins where its type may lie.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    facts, end = {}, 0
    for name in names:
        array = tensors[name]
        start, end = end, end + array.nbytes
        facts[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (start, end),
        }
    header = json.dumps(facts).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(
        path,
        [
            len(header).to_bytes(HEADER_SIZE, "little"),
            header,
            *(tensors[name].reshape(-1).view(np.uint8).data for name in names),
        ],
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, even if the machine stops."""
    _write(path, [content])


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
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
    _check(path, names, item_ids, tensors)
    return item_ids, tensors


def read_mapped(path: Path, *, names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """As `read`, but what arrays hold is read from the file when it is looked at.

    The file may be replaced, but must not be changed, while the arrays are in use.

    Raises:
        UnusableIndex: the file is missing, damaged, or lacks one of `names`.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(HEADER_SIZE), "little")
            if size > path.stat().st_size:
                raise ValueError(f"a header of {size} bytes does not fit in")
            facts = json.loads(file.read(size))
        start = HEADER_SIZE + size
        tensors = {name: _mapped(path, start, one) for name, one in facts.items()}
        item_ids = json.loads(tensors.pop(IDS).tobytes())
    except FileNotFoundError as error:
        raise UnusableIndex(f"{path} is missing: {REPAIR}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
    _check(path, names, item_ids, tensors)
    return item_ids, tensors


def _mapped(path: Path, start: int, facts: Mapping[str, Any]) -> NDArray[Any]:
    codes = {code: name for name, code in DTYPES.items()}
    dtype = codes[facts["dtype"]]
    first, last = facts["data_offsets"]
    shape = tuple(facts["shape"])
    array: NDArray[Any] = np.zeros(shape if first == last else 0, dtype=dtype)
    if first != last:
        array = np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape)
    if array.nbytes != last - first:
        raise ValueError(f"{last - first} bytes are not {facts['dtype']} of shape {list(shape)}")
    return array


def _check(
    path: Path, names: Sequence[str], item_ids: object, tensors: Mapping[str, NDArray[Any]]
) -> None:
    missing = sorted(set(names) - set(tensors))
    if missing or not isinstance(item_ids, list):
        raise UnusableIndex(f"{path} is damaged (it lacks {missing or 'a list of ids'}): {REPAIR}")
