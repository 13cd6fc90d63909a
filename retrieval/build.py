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

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from embedders.items import Modality
from embedders.vectors import Embeddings, Space
from retrieval.attributes import Attributes
from retrieval.base import REPAIR, Index, QueryEncoder, UnusableIndex
from retrieval.candidates import Query
from retrieval.composed import query_encoder
from retrieval.concatenated import ItemVectors
from retrieval.curve import chosen
from retrieval.fill import curve_of, filled, kind_for
from retrieval.folder import digests, replaced, verify
from retrieval.fusion import Fusion
from retrieval.learned_fusion import Learned
from retrieval.manifest import NAME, Manifest
from retrieval.policy import AUTO
from retrieval.pooled import PoolingConfig
from retrieval.probes import probes
from retrieval.rank_fusion import ByRank
from retrieval.registry import KINDS, SERVER_KINDS, load_sequence
from retrieval.registry import load as load_index
from retrieval.retriever import Retriever
from retrieval.tensor_file import read, write, write_bytes

INDEX, VECTORS, USERS = "index.safetensors", "vectors.safetensors", "users.safetensors"
POPULARITY, ATTRIBUTES = "popularity.json", "attributes.parquet"
SEQUENCE, FUSION = "sequence.safetensors", "fusion.json"


if TYPE_CHECKING:
    from retrieval.sequence import SequenceEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """How an index is built."""

    kind: str = AUTO
    """As `retrieval.registry` names them, or `auto`: `retrieval.policy` chooses by size and
    memory."""
    target_recall: float = 0.99
    """The search looks as hard as it takes to find this share of the true first hundred."""
    memory_limit_gib: float | None = None
    """What an index that is chosen may hold, beside the item vectors; left out, half of this
    machine's memory."""
    attributes: tuple[str, ...] = ()
    """The columns of the catalog that may be filtered by; empty for all of them."""
    num_probes: int = 64
    """Queries on which the index is compared with the exact order: held-out ones, or else simulated
    histories."""
    probe_length: int = 5
    """Items in a simulated history."""
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = (AUTO, *KINDS, *SERVER_KINDS)
        if self.kind not in kinds:
            known = ", ".join(kinds)
            raise ValueError(f"no index of kind {self.kind!r}; choose one of {known}")
        if not 0 < self.target_recall <= 1:
            raise ValueError(f"target_recall lies in (0, 1], got {self.target_recall}")
        if self.num_probes < 1 or self.probe_length < 1:
            raise ValueError(
                f"num_probes and probe_length must be at least 1, got {self.num_probes} and "
                f"{self.probe_length}"
            )


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
    queries: Sequence[Query] = (),
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
        queries: Held-out ones, with their histories, on which the index is measured; without any,
            histories are simulated.

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
    choice = kind_for(item_vectors, config.kind, memory_limit_gib=config.memory_limit_gib)
    index = filled(item_vectors, kind=choice.kind)
    queries_QD = probes(
        item_vectors,
        encoder,
        queries=queries,
        limit=config.num_probes,
        length=config.probe_length,
        seed=config.seed,
    )
    curve = curve_of(index, item_vectors, queries_QD, target=config.target_recall)
    best = chosen(curve, target=config.target_recall)
    index.effort = best.effort
    with replaced(folder) as new:
        index.save(new / INDEX)
        _save_vectors(new, item_vectors, user_vectors)
        write_bytes(new / POPULARITY, json.dumps([list(one) for one in popularity]).encode())
        if attributes is not None:
            attributes.save(new / ATTRIBUTES)
        if sequence is not None:
            sequence.save(new / SEQUENCE)
        if isinstance(fusion, Learned):
            fusion.save(new / FUSION)
        manifest = Manifest(
            kind=choice.kind,
            reasons=choice.reasons,
            effort=best.effort,
            curve=curve,
            target_recall=config.target_recall,
            spaces=item_vectors.spaces,
            dim=item_vectors.dim,
            num_items=len(item_vectors),
            num_indexed=len(index),
            num_users=0 if user_vectors is None else len(user_vectors),
            as_of=as_of,
            pooling=pooling,
            fusion=_fusion_name(fusion),
            recall_against_exact=best.recall,
            files=digests(new),
            versions=_versions(),
        )
        write_bytes(new / NAME, manifest.to_json().encode())
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
    verify(folder, manifest.files)
    index = load_index(manifest.kind, folder / INDEX)
    index.effort = manifest.effort
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


def _check_spaces(folder: Path, held: Sequence[Space], expected: Sequence[Space]) -> None:
    held_ids = {space.space_id for space in held}
    expected_ids = {space.space_id for space in expected}
    if held_ids != expected_ids:
        raise UnusableIndex(
            f"the index in {folder} holds the spaces {sorted(held_ids)}, but "
            f"{sorted(expected_ids)} are asked for: {REPAIR}"
        )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("faiss-cpu", "numpy", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an exact index needs no FAISS
            found[name] = "absent"
    return found
