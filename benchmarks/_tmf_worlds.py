"""A split set and a seed in; its items' vectors, an LLM of its own words and a retriever out.

All that the variants of one seed share: the graph, trained on the first band alone, and the
embedded LLM, made from the items' texts. Both are kept, so that a second run goes on at once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from _tmf_sets import Moments
from modality_recall import ENCODERS
from pydantic import TypeAdapter

from embedders.graph_config import GraphConfig
from embedders.item_text import item_text
from embedders.registry import create, fit_graph
from embedders.vectors import Embeddings, Space
from ranker.config import EmbeddedLlmConfig
from ranker.embedded_llm import make
from retrieval import tensor_file
from retrieval.candidates import Query
from retrieval.composed import query_encoder
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PoolingConfig
from retrieval.popularity import popularity
from retrieval.retriever import Retriever
from retrieval.tuning import fit_weights

GRAPHS = {  # as `sommelier.presets` has them
    "lastfm": GraphConfig(impute=False),
    "movielens": GraphConfig(loss="bpr", epochs=40, impute=False),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """One set and seed."""

    name: str
    seed: int
    moments: Moments
    items: ItemVectors
    users: Embeddings
    """The graph's."""
    titles: Mapping[str, str]
    llm: Path
    folder: Path
    """Where adapters are kept."""


def build(name: str, moments: Moments, *, seed: int, folder: Path) -> World:
    """Train the graph and make the LLM, or find them."""
    known = frozenset(moments.item_ids)
    items = [item for item in moments.catalog.items() if item.item_id in known]
    parts = []
    for config in ENCODERS[name]:
        path = folder / f"{name}-{config.modality}.safetensors"
        if not path.is_file():
            embedder = create(config, catalog=moments.catalog)
            held = [item for item in items if embedder.fingerprint(item) is not None]
            _keep(path, embedder.embed(held)[0])
        parts.append(_kept(path))
    path, path_of_users = (folder / f"{name}-graph-{kind}-{seed}.safetensors" for kind in "iu")
    if not path_of_users.is_file():
        graph = fit_graph(
            replace(GRAPHS[name], seed=seed),
            moments.graph_events,
            None,
            friends=moments.catalog.friends,
        )
        _keep(path, graph.items())
        _keep(path_of_users, graph.users())
    llm = make(
        [item_text(item) for item in items],
        behaviors=sorted(set(moments.graph_events["behavior"].to_pylist())),
        folder=folder / "llms",
        config=EmbeddedLlmConfig(),
        seed=seed,
    )
    return World(
        name=name,
        seed=seed,
        moments=moments,
        items=concatenate([*parts, _kept(path)], item_ids=moments.item_ids),
        users=_kept(path_of_users),
        titles={item.item_id: item.title for item in items},
        llm=llm,
        folder=folder / "adapters",
    )


def retriever(known: World) -> Retriever:
    """All blocks in one exact index, their weights fitted on the training moments."""
    train = known.moments.train
    pooling = fit_weights(
        [Query(user_id=one.user_id, history=one.history) for one in train],
        [frozenset(one.chosen) for one in train],
        item_vectors=known.items,
        user_vectors=known.users,
        as_of=None,
        pooling=PoolingConfig(),
    )
    encoder = query_encoder(known.items, pooling=pooling, user_vectors=known.users, as_of=None)
    index = ExactIndex(dim=known.items.dim)
    index.add(known.items.item_ids, known.items.vectors_ND)
    counts = popularity(known.moments.graph_events, until=None)
    return Retriever(index, known.items, encoder, popularity=counts)


def without(items: ItemVectors, absent: frozenset[str]) -> ItemVectors:
    """The same items, lacking these modalities everywhere."""
    vectors_ND, is_present_NM = items.vectors_ND.copy(), items.is_present_NM.copy()
    for name in absent:
        vectors_ND[:, items.columns_of[name]] = 0
        is_present_NM[:, items.names.index(name)] = False
    return replace(items, vectors_ND=vectors_ND, is_present_NM=is_present_NM)


def _keep(path: Path, embeddings: Embeddings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(asdict(embeddings.space)), encoding="utf-8")
    arrays = {"vectors": np.ascontiguousarray(embeddings.vectors_ND)}
    tensor_file.write(path, item_ids=embeddings.item_ids, arrays=arrays)


def _kept(path: Path) -> Embeddings:
    ids, arrays = tensor_file.read(path, names=["vectors"])
    space = TypeAdapter(Space).validate_json(path.with_suffix(".json").read_text("utf-8"))
    return Embeddings(space=space, item_ids=ids, vectors_ND=arrays["vectors"])
