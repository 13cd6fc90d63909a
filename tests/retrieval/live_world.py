"""A catalog of two spaces that changes, and what an index of all its items would answer.

The last dozen of items have no text, and the first no edges.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from embedders.items import Item, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.attributes import Attributes
from retrieval.candidates import Query
from retrieval.composed import query_encoder
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.layers import Main, Network, encoder_maker
from retrieval.pooled import PoolingConfig
from retrieval.registry import create
from retrieval.retriever import Retriever
from tests.retrieval.small_world import history

TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=12)
GRAPH = Space(modality=Modality.GRAPH, encoder="lightgcn", revision="1", dim=8)
POOLING = PoolingConfig(weights={"text": 0.7})
NUM_ITEMS = 300
IDS = [f"{row:03}" for row in range(NUM_ITEMS)]
POPULARITY = [(one, float(NUM_ITEMS - row)) for row, one in enumerate(IDS) if row % 3]
USER_IDS = ("u0", "u1")


def vectors(space: Space, item_ids: Sequence[str], seed: int = 0) -> Embeddings:
    random = np.random.default_rng([seed, space.dim])
    mean = np.linspace(0, 1, space.dim)
    drawn = normalize(random.normal(size=(len(item_ids), space.dim)) + mean)
    return Embeddings(space=space, item_ids=list(item_ids), vectors_ND=drawn)


def described(item_ids: Iterable[str], **attributes: str) -> list[Item]:
    texts = {"price": "3"} | attributes
    return [
        Item(item_id=one, title=one, category="ABC"[sum(map(ord, one)) % 3], attributes=texts)
        for one in item_ids
    ]


def items() -> ItemVectors:
    return concatenate([vectors(TEXT, IDS[:-12]), vectors(GRAPH, IDS[12:])])


USERS = vectors(GRAPH, USER_IDS, seed=9)


def main(
    item_vectors: ItemVectors,
    attributes: Attributes,
    *,
    kind: str = "exact",
    digest: str = "0",
    network: Network | None = None,
    users: Embeddings | None = USERS,
) -> Main:
    index = create(kind, dim=item_vectors.dim)
    rows = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    index.add([item_vectors.item_ids[row] for row in rows], item_vectors.vectors_ND[rows])
    encoder_of = encoder_maker(pooling=POOLING, user_vectors=users, as_of=None, sequence=network)
    return Main(
        digest=digest,
        index=index,
        item_vectors=item_vectors,
        encoder=encoder_of(item_vectors, None),
        encoder_of=encoder_of,
        popularity=POPULARITY,
        attributes=attributes,
        sequence=network,
    )


def first(**facts: str) -> Main:
    return main(items(), Attributes.of(described(IDS)), **facts)


def rebuilt(item_vectors: ItemVectors, attributes: Attributes) -> Retriever:
    """What an index of all these items answers."""
    return Retriever(
        main(item_vectors, attributes).index,
        item_vectors,
        query_encoder(item_vectors, pooling=POOLING, user_vectors=USERS, as_of=None),
        popularity=POPULARITY,
        attributes=attributes,
    )


def queries(item_ids: Sequence[str], count: int = 40) -> list[Query]:
    """Of histories of 0 to 7 of these items, and of strangers."""
    random = np.random.default_rng(3)
    return [
        Query(
            user_id=("u0", "u1", "stranger")[row % 3],
            history=history(*random.choice(list(item_ids), row % 8, replace=False)),
        )
        for row in range(count)
    ]
