"""The name of a kind of index in, the index out: the room's only lazy imports."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from retrieval.base import Index
from retrieval.concatenated import ItemVectors
from retrieval.milvus_server import MilvusServer
from retrieval.sequence_config import SequenceConfig

if TYPE_CHECKING:
    from retrieval.sequence import SequenceEncoder

TORCH = "the network over histories needs torch: pip install 'sommelier[rank]'"

KINDS = ("exact", "flat", "hnsw", "ivf", "ivfpq")
"""`exact` is a product in numpy; the others are FAISS's. `flat` is exact too."""


SERVER_KINDS = ("milvus",)
"""Of a server, which is told where it listens (`retrieval.milvus_server`)."""


def create(kind: str, *, dim: int, server: MilvusServer | None = None) -> Index:
    """An empty index; `server` is for the kinds of a server, and by default on this machine.

    Raises:
        ValueError: no such kind.
        ImportError: the kind's library is not installed; the message says how to install it.
    """
    facts = {"server": server} if kind in SERVER_KINDS else {}
    return _index_class(kind)(dim=dim, **facts)  # type: ignore[call-arg]


def load(kind: str, path: Path, *, server: MilvusServer | None = None) -> Index:
    """The index that `Index.save` wrote; `server` is for the kinds of a server, which else is the
    one that the file names, asked without a token.

    Raises:
        ValueError: no such kind.
        ImportError: the kind's library is not installed; the message says how to install it.
        UnusableIndex: the file is missing or damaged.
    """
    facts = {"server": server} if kind in SERVER_KINDS else {}
    return _index_class(kind).load(path, **facts)


def fit_sequence(
    interactions: pa.Table,
    *,
    item_vectors: ItemVectors,
    until: datetime | None,
    config: SequenceConfig,
    on_progress: Callable[[int, int, float], None] | None = None,
    checkpoint: Path | None = None,
) -> "SequenceEncoder":
    """Train the network over histories, as `retrieval.sequence_training.fit` does.

    Raises:
        ValueError: nothing is left to train on, or a modality is asked for that there is not.
        ImportError: torch is not installed; the message says how to install it.
    """
    try:
        from retrieval.sequence_training import fit
    except ImportError as error:
        raise ImportError(TORCH) from error
    return fit(
        interactions,
        item_vectors=item_vectors,
        until=until,
        config=config,
        on_progress=on_progress,
        checkpoint=checkpoint,
    )


def load_sequence(path: Path) -> "SequenceEncoder":
    """The trained network that `SequenceEncoder.save` wrote.

    Raises:
        UnusableIndex: the file is missing or damaged.
        ImportError: torch is not installed; the message says how to install it.
    """
    try:
        from retrieval.sequence import SequenceEncoder
    except ImportError as error:
        raise ImportError(TORCH) from error
    return SequenceEncoder.load(path)


def _index_class(kind: str) -> type[Index]:
    if kind not in (*KINDS, *SERVER_KINDS):
        known = ", ".join((*KINDS, *SERVER_KINDS))
        raise ValueError(f"no index of kind {kind!r}; choose one of {known}")
    if kind == "exact":
        from retrieval.exact import ExactIndex

        return ExactIndex
    if kind == "milvus":
        try:
            from retrieval.milvus import MilvusIndex
        except ImportError as error:
            raise ImportError(
                "an index of kind 'milvus' needs its client: pip install 'sommelier[milvus]'"
            ) from error
        return MilvusIndex
    try:
        return _faiss_class(kind)
    except ImportError as error:
        raise ImportError(
            f"an index of kind {kind!r} needs FAISS: pip install 'sommelier[retrieve]'"
        ) from error


def _faiss_class(kind: str) -> type[Index]:
    match kind:
        case "flat":
            from retrieval.faiss_flat import FaissFlatIndex

            return FaissFlatIndex
        case "hnsw":
            from retrieval.faiss_hnsw import FaissHnswIndex

            return FaissHnswIndex
        case "ivf":
            from retrieval.faiss_ivf import FaissIvfIndex

            return FaissIvfIndex
        case _:
            from retrieval.faiss_ivfpq import FaissIvfPqIndex

            return FaissIvfPqIndex
