"""Queries in, one vector for each block out, from several query encoders that share the blocks.

Pooled histories fill the modalities' blocks, a network over histories fills the one named
"sequence". The retriever sees one encoder, and the index one vector.

Shape legend: Q queries, D dimensions of a block.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings
from retrieval.base import EncodedQuery, QueryEncoder
from retrieval.candidates import Query
from retrieval.concatenated import SEQUENCE, ItemVectors
from retrieval.graph_users import knows_the_future
from retrieval.pooled import PooledHistory, PoolingConfig


class QueryVectors(Protocol):
    """What a trained network offers once it knows the items: see `retrieval.sequence`."""

    def encode_many(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """[Q, D]: unit rows; zeros where nothing is known of a query."""
        ...


class OneBlock(QueryEncoder):
    """A network's query vectors, as one block."""

    def __init__(
        self, name: str, network: QueryVectors, *, weight: float, as_of: datetime | None
    ) -> None:
        """Prepare for queries.

        Args:
            name: Of the block.
            network: Whoever makes the vectors.
            weight: How much the cosine in this block counts.
            as_of: The cut before which the network was trained; queries as of an earlier moment
                get nothing from it. None where there was no cut.
        """
        self.weights = {name: weight}
        self._name, self._network, self._as_of = name, network, as_of

    def encode_many(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        asked = [
            place
            for place, query in enumerate(queries)
            if (query.modalities is None or self._name in query.modalities)
            and not knows_the_future(query, trained_until=self._as_of)
        ]
        encoded = [EncodedQuery()] * len(queries)
        if not asked:
            return encoded
        vectors_QD = self._network.encode_many([queries[place] for place in asked])
        for place, vector_D in zip(asked, vectors_QD, strict=True):
            if vector_D.any():
                encoded[place] = EncodedQuery(vectors={self._name: vector_D})
        return encoded


class Composed(QueryEncoder):
    """Several encoders as one; each speaks blocks that no other one speaks."""

    def __init__(self, encoders: Sequence[QueryEncoder]) -> None:
        """Join them.

        Raises:
            ValueError: two of them speak the same block.
        """
        names = [name for encoder in encoders for name in encoder.weights]
        if len(set(names)) < len(names):
            raise ValueError(f"two query encoders speak one block: {sorted(names)}")
        self._encoders = tuple(encoders)
        self.weights = {name: w for one in encoders for name, w in sorted(one.weights.items())}

    def encode_many(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        parts = [encoder.encode_many(queries) for encoder in self._encoders]
        return [
            EncodedQuery(
                vectors={name: v for one in of_query for name, v in one.vectors.items()},
                agreement={name: a for one in of_query for name, a in one.agreement.items()},
            )
            for of_query in zip(*parts, strict=True)
        ]


def query_encoder(
    item_vectors: ItemVectors,
    *,
    pooling: PoolingConfig,
    user_vectors: Embeddings | None,
    as_of: datetime | None,
    sequence: QueryVectors | None = None,
) -> QueryEncoder:
    """Everything that is known of a query, in the blocks of these items.

    Args:
        item_vectors: What is searched.
        pooling: How histories are pooled, and every block's weight.
        user_vectors: The users' own graph vectors, if any.
        as_of: The cut before which whatever is trained on events was trained.
        sequence: The trained network, where there is a block of it.

    Raises:
        ValueError: the users' vectors are of another space, or there is a network without a
            block or a block without its network.
    """
    pooled = PooledHistory(item_vectors, config=pooling, user_vectors=user_vectors, as_of=as_of)
    if (sequence is None) != (SEQUENCE not in item_vectors.names):
        held = "no network" if sequence is None else "a network"
        raise ValueError(f"{held} came with the blocks {', '.join(item_vectors.names)}")
    if sequence is None:
        return pooled
    weight = float(pooling.weights.get(SEQUENCE, 1.0))
    return Composed([pooled, OneBlock(SEQUENCE, sequence, weight=weight, as_of=as_of)])
