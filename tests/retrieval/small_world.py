"""A world of two tastes: sweet items lie along one axis of every space, sour along another.

Both spaces have a large common mean, as raw encoders do. `sweet-new` has a text and no edges,
`sour-mute` edges and no text; `bare` has nothing.
"""

import numpy as np

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.retriever import Retriever

TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=6)
GRAPH = Space(modality=Modality.GRAPH, encoder="lightgcn", revision="1", dim=4)
TASTES = ("sour", "sweet")
IDS = [f"{taste}-{number}" for taste in TASTES for number in range(6)]
POPULARITY = [("sour-1", 8.0), ("sweet-1", 4.0), ("gone", 3.0), ("sweet-0", 2.0), ("sour-0", 2.0)]


def embeddings(space: Space, ids: list[str], mean: float) -> Embeddings:
    """The axis of each id's taste, a little noise, and a common mean along the last axis."""
    random = np.random.default_rng(space.dim)
    vectors = 0.1 * random.normal(size=(len(ids), space.dim))
    vectors[:, -1] += mean
    for row, one in enumerate(ids):
        vectors[row, TASTES.index(one.split("-")[0])] += 1
    return Embeddings(space=space, item_ids=ids, vectors_ND=normalize(vectors))


TEXTS = embeddings(TEXT, [*IDS, "sweet-new"], mean=5)
EDGES = embeddings(GRAPH, [*IDS[::-1], "sour-mute"], mean=0)
USERS = embeddings(GRAPH, ["sour-user", "sweet-user"], mean=0)


def items() -> ItemVectors:
    return concatenate([TEXTS, EDGES], item_ids=[*IDS, "sweet-new", "sour-mute", "bare"])


def retriever(config: PoolingConfig | None = None, users: Embeddings | None = USERS) -> Retriever:
    item_vectors = items()
    rows = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    index = ExactIndex(dim=item_vectors.dim)
    index.add([item_vectors.item_ids[row] for row in rows], item_vectors.vectors_ND[rows])
    encoder = PooledHistory(item_vectors, config=config or PoolingConfig(), user_vectors=users)
    return Retriever(index, item_vectors, encoder, popularity=POPULARITY)


def history(*item_ids: str, behavior: str = "view") -> tuple[Interaction, ...]:
    return tuple(Interaction(item_id=item_id, behavior=behavior) for item_id in item_ids)
