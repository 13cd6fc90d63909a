"""What changes in a catalog while it is searched, and the same as bytes: safetensors, no code.

Vectors are kept as their encoders made them, not centered as the index of the day centers them,
so that a change can be laid over the next index too.

Shape legend: N items, D dimensions.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialize

from embedders.items import Modality
from embedders.vectors import Embeddings, Space

FACTS = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """Items that are new or other than they were. What is not given of an item stays."""

    vectors: tuple[Embeddings, ...] = ()
    """Of one space each."""
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Item id -> all of its attributes by column, the category among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Items that are not to be found any more."""

    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildBegun:
    """From here on, changes are not in the index that is being built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildAbandoned:
    """That index will not come."""


Change = Upsert | Delete | RebuildBegun | RebuildAbandoned


def to_bytes(change: Change) -> bytes:
    """The change as one safetensors file."""
    facts: dict[str, object] = {"kind": type(change).__name__}
    tensors = {}
    match change:
        case Upsert():
            facts["attributes"] = {one: dict(texts) for one, texts in change.attributes.items()}
            facts["vectors"] = [
                {"space": asdict(part.space), "item_ids": list(part.item_ids)}
                for part in change.vectors
            ]
            tensors = {
                str(place): np.ascontiguousarray(part.vectors_ND)
                for place, part in enumerate(change.vectors)
            }
        case Delete():
            facts["item_ids"] = list(change.item_ids)
    content = json.dumps(facts, ensure_ascii=False).encode()
    return serialize({FACTS: np.frombuffer(content, dtype=np.uint8), **tensors})


def from_bytes(content: bytes) -> Change:
    """The change that `to_bytes` wrote.

    Raises:
        ValueError: the bytes are no change.
    """
    try:
        tensors = parse(content)
        facts = json.loads(tensors[FACTS].tobytes())
        match facts["kind"]:
            case "Upsert":
                return Upsert(
                    attributes=facts["attributes"], vectors=tuple(_vectors(facts, tensors))
                )
            case "Delete":
                return Delete(item_ids=tuple(facts["item_ids"]))
            case "RebuildBegun":
                return RebuildBegun()
            case "RebuildAbandoned":
                return RebuildAbandoned()
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no change that this version knows ({error!r})") from error
    raise ValueError(f"no change of kind {facts['kind']!r} is known to this version")


def _vectors(
    facts: Mapping[str, Any], tensors: Mapping[str, NDArray[np.float32]]
) -> Iterator[Embeddings]:
    for place, part in enumerate(facts["vectors"]):
        named = part["space"]["modality"]
        modality = None if named is None else Modality(named)
        yield Embeddings(
            space=Space(**{**part["space"], "modality": modality}),
            item_ids=part["item_ids"],
            vectors_ND=tensors[str(place)],
        )
