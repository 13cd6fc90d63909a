"""Item vectors in, a folder out that holds everything retrieval needs; and back, verified.

    manifest.json          what the folder holds, with the SHA-256 of the rest
    index.safetensors      the index, in the format of its kind
    vectors.safetensors    the items in the concatenated space, for evidence and histories
    users.safetensors      the users' graph vectors, where there are any
    popularity.json        items by popularity, for queries of which nothing is known
    attributes.parquet     what items are filtered by, where they have attributes
    sequence.safetensors   the network over histories, where one is trained
    fusion.json            how lists of single blocks are fused, where that is learned

The folder is made beside its final place and then renamed, so that it is there whole or not at
all. Where an older one is in the way, that one is moved aside first and deleted last.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space
from retrieval.attributes import Attributes
from retrieval.base import REPAIR, Index, QueryEncoder, UnusableIndex
from retrieval.candidates import Query
from retrieval.composed import query_encoder
from retrieval.concatenated import ItemVectors
from retrieval.exact import ExactIndex
from retrieval.fusion import Fusion
from retrieval.learned_fusion import Learned
from retrieval.manifest import NAME, Manifest
from retrieval.pooled import PoolingConfig
from retrieval.rank_fusion import ByRank
from retrieval.registry import create, load_sequence
from retrieval.registry import load as load_index
from retrieval.retriever import Retriever
from retrieval.tensor_file import read, write, write_bytes

INDEX, VECTORS, USERS = "index.safetensors", "vectors.safetensors", "users.safetensors"
POPULARITY, ATTRIBUTES = "popularity.json", "attributes.parquet"
SEQUENCE, FUSION = "sequence.safetensors", "fusion.json"
RECALL_DEPTH = 100


if TYPE_CHECKING:
    from retrieval.sequence import SequenceEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """How an index is built."""

    kind: str = "flat"
    """As `retrieval.registry` names them."""
    num_probes: int = 64
    """Simulated histories on which the index is compared with the exact one."""
    probe_length: int = 5
    """Items in a simulated history."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """The parts of a loaded folder."""

    manifest: Manifest
    index: Index
    item_vectors: ItemVectors
    user_vectors: Embeddings | None
    popularity: list[tuple[str, float]]
    attributes: Attributes | None = None
    sequence: "SequenceEncoder | None" = None
    fusion: Fusion | None = None

    def query_encoder(self, pooling: PoolingConfig | None = None) -> QueryEncoder:
        """What queries are encoded with; `pooling` replaces the manifest's."""
        return query_encoder(
            self.item_vectors,
            pooling=pooling or self.manifest.pooling,
            user_vectors=self.user_vectors,
            as_of=self.manifest.as_of,
            sequence=self.sequence.bound(self.item_vectors) if self.sequence else None,
        )

    def retriever(self, pooling: PoolingConfig | None = None) -> Retriever:
        """The retriever of these parts; `pooling` replaces the manifest's, without a rebuild."""
        return Retriever(
            self.index,
            self.item_vectors,
            self.query_encoder(pooling),
            popularity=self.popularity,
            attributes=self.attributes,
            fusion=self.fusion,
        )


def build(
    item_vectors: ItemVectors,
    *,
    folder: Path,
    config: IndexConfig,
    pooling: PoolingConfig,
    popularity: Sequence[tuple[str, float]],
    user_vectors: Embeddings | None = None,
    as_of: datetime | None = None,
    attributes: Attributes | None = None,
    sequence: "SequenceEncoder | None" = None,
    fusion: Fusion | None = None,
) -> Manifest:
    """Write the folder, replacing an older one.

    Args:
        item_vectors: All items in the concatenated space.
        folder: Where to; its parent is made if need be.
        config: How the index is built.
        pooling: How histories become queries.
        popularity: (item id, count), most popular first.
        user_vectors: The users' graph vectors, in the items' graph space.
        as_of: The cut before which everything was read.
        attributes: What items may be filtered by.
        sequence: The network over histories, where the items have its block.
        fusion: How lists of single blocks become one; None for the weighted sum of cosines.

    Raises:
        ValueError: no item has a vector, the users' vectors are of another space, or there is a
            block without its network.
    """
    encoder = query_encoder(
        item_vectors,
        pooling=pooling,
        user_vectors=user_vectors,
        as_of=as_of,
        sequence=sequence.bound(item_vectors) if sequence else None,
    )
    index = _filled(create(config.kind, dim=item_vectors.dim), item_vectors)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        index.save(temporary / INDEX)
        _save_vectors(temporary, item_vectors, user_vectors)
        write_bytes(temporary / POPULARITY, json.dumps([list(one) for one in popularity]).encode())
        if attributes is not None:
            attributes.save(temporary / ATTRIBUTES)
        if sequence is not None:
            sequence.save(temporary / SEQUENCE)
        if isinstance(fusion, Learned):
            fusion.save(temporary / FUSION)
        manifest = Manifest(
            kind=config.kind,
            spaces=item_vectors.spaces,
            dim=item_vectors.dim,
            num_items=len(item_vectors),
            num_indexed=len(index),
            num_users=0 if user_vectors is None else len(user_vectors),
            as_of=as_of,
            pooling=pooling,
            fusion=_fusion_name(fusion),
            recall_against_exact=_recall(index, item_vectors, encoder, config),
            files={path.name: _sha256(path) for path in sorted(temporary.iterdir())},
            versions=_versions(),
        )
        write_bytes(temporary / NAME, manifest.to_json().encode())
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def load(folder: Path, *, expected_spaces: Iterable[Space] | None = None) -> Retrieval:
    """The parts that `build` wrote, verified.

    Args:
        folder: Where they are.
        expected_spaces: The spaces that the embedders and the store speak now. The index must
            hold exactly these.

    Raises:
        UnusableIndex: the folder is missing, damaged, or of other spaces.
    """
    manifest = Manifest.read(folder)
    if expected_spaces is not None:
        _check_spaces(folder, manifest.spaces, tuple(expected_spaces))
    for name, digest in manifest.files.items():
        if not (folder / name).is_file():
            raise UnusableIndex(f"{folder / name} is missing: {REPAIR}")
        if _sha256(folder / name) != digest:
            raise UnusableIndex(f"{folder / name} is damaged (its SHA-256 differs): {REPAIR}")
    index = load_index(manifest.kind, folder / INDEX)
    item_ids, arrays = read(folder / VECTORS, names=["vectors", "is_present", "centers"])
    item_vectors = ItemVectors(
        item_ids=tuple(item_ids),
        spaces=manifest.spaces,
        vectors_ND=arrays["vectors"],
        is_present_NM=arrays["is_present"],
        centers_D=arrays["centers"],
    )
    user_vectors = None
    if USERS in manifest.files:
        user_ids, arrays = read(folder / USERS, names=["vectors"])
        user_vectors = Embeddings(
            space=item_vectors.space(Modality.GRAPH),
            item_ids=user_ids,
            vectors_ND=arrays["vectors"],
        )
    pairs = json.loads((folder / POPULARITY).read_text(encoding="utf-8"))
    return Retrieval(
        manifest=manifest,
        index=index,
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        popularity=[(item_id, float(count)) for item_id, count in pairs],
        attributes=Attributes.load(folder / ATTRIBUTES) if ATTRIBUTES in manifest.files else None,
        sequence=load_sequence(folder / SEQUENCE) if SEQUENCE in manifest.files else None,
        fusion=_fusion(manifest.fusion, folder),
    )


def _fusion_name(fusion: Fusion | None) -> str:
    match fusion:
        case None:
            return "weighted"
        case ByRank():
            return "rank"
        case Learned():
            return "learned"
        case _:
            raise ValueError(f"an index folder holds no fusion such as {type(fusion).__name__}")


def _fusion(name: str, folder: Path) -> Fusion | None:
    match name:
        case "weighted":
            return None
        case "rank":
            return ByRank()
        case "learned":
            return Learned.load(folder / FUSION)
        case _:
            raise UnusableIndex(f"{folder} names an unknown fusion {name!r}: {REPAIR}")


def _filled(index: Index, item_vectors: ItemVectors) -> Index:
    """The index with all items that have a vector in any space."""
    rows = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    if not len(rows):
        raise ValueError("no item has a vector in any space: run `sommelier embed` first")
    index.add([item_vectors.item_ids[row] for row in rows], item_vectors.vectors_ND[rows])
    return index


def _save_vectors(folder: Path, item_vectors: ItemVectors, user_vectors: Embeddings | None) -> None:
    arrays = {
        "vectors": item_vectors.vectors_ND,
        "is_present": item_vectors.is_present_NM,
        "centers": item_vectors.centers_D,
    }
    write(folder / VECTORS, item_ids=item_vectors.item_ids, arrays=arrays)
    if user_vectors is not None:
        write(
            folder / USERS,
            item_ids=list(user_vectors.item_ids),
            arrays={"vectors": user_vectors.vectors_ND},
        )


def _recall(
    index: Index, item_vectors: ItemVectors, encoder: QueryEncoder, config: IndexConfig
) -> float:
    """The share of the true first hundred that the index finds, on simulated histories.

    The histories are drawn at random and never indexed themselves.
    """
    random = np.random.default_rng(config.seed)
    held = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    queries_QD = np.zeros((config.num_probes, item_vectors.dim), dtype=np.float32)
    for query_D in queries_QD:
        rows = random.choice(held, min(config.probe_length, len(held)), replace=False)
        events = tuple(Interaction(item_id=item_vectors.item_ids[row], behavior="") for row in rows)
        for name, vector_D in encoder.encode(Query(history=events)).vectors.items():
            query_D[item_vectors.columns_of[name]] = encoder.weights[name] * vector_D
    exact = _filled(ExactIndex(dim=item_vectors.dim), item_vectors)
    found = index.search(queries_QD, limit=RECALL_DEPTH)
    true = exact.search(queries_QD, limit=RECALL_DEPTH)
    shares = [
        len(dict(some).keys() & dict(best).keys()) / len(best)
        for some, best in zip(found, true, strict=True)
    ]
    return float(np.mean(shares)) if shares else 1.0


def _check_spaces(folder: Path, held: Sequence[Space], expected: Sequence[Space]) -> None:
    held_ids = {space.space_id for space in held}
    expected_ids = {space.space_id for space in expected}
    if held_ids != expected_ids:
        raise UnusableIndex(
            f"the index in {folder} holds the spaces {sorted(held_ids)}, but "
            f"{sorted(expected_ids)} are asked for: {REPAIR}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in ("faiss-cpu", "numpy", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an exact index needs no FAISS
            found[name] = "absent"
    return found


def _swap(temporary: Path, folder: Path) -> None:
    """Put the new folder in the old one's place."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
