"""A history in, one query vector for each modality out: the recent items' mean, newest heaviest.

In each modality's block the items of the history are summed, each event weighing half as much as
one `half_life` events later, times its behavior's weight; the sum is normalized. In the graph's
block it is blended with the user's own vector (`retrieval.graph_users`), where there is one.

`as_of` hides: an event counts only if it came strictly before it (or states no time).

Shape legend: H events of a history, M blocks, D dimensions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings
from retrieval.base import EncodedQuery, QueryEncoder
from retrieval.candidates import Query
from retrieval.concatenated import BLOCKS, TINY, ItemVectors
from retrieval.graph_users import GraphUsers


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingConfig:
    """How a history becomes a query."""

    limit: int = 50
    """Only so many newest events count."""
    half_life: float = 20
    """In events: an event weighs half as much as one that came so many events later."""
    behavior_weights: Mapping[str, float] = field(default_factory=dict)
    """A behavior that is left out weighs 1; one of weight 0 is not looked at."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """How much the cosine in each block counts, by modality or "sequence"; one that is left out
    weighs 1."""
    graph_user_share: float = 0.5
    """The share of the user's own vector in the graph space; 0 is the history's items alone."""

    def __post_init__(self) -> None:
        if self.limit < 1 or self.half_life <= 0:
            raise ValueError(
                f"limit must be at least 1 and half_life positive, got {self.limit} and "
                f"{self.half_life}"
            )
        if not 0 <= self.graph_user_share <= 1:
            raise ValueError(f"graph_user_share lies in [0, 1], got {self.graph_user_share}")
        for name in ("behavior_weights", "weights"):
            for key, weight in getattr(self, name).items():
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"{name}[{str(key)!r}] must be 0 or more, got {weight}")
        for name in self.weights:
            if name not in BLOCKS:
                known = ", ".join(BLOCKS)
                raise ValueError(f"weights: no block {str(name)!r}; choose among {known}")


class PooledHistory(QueryEncoder):
    """The decayed mean of what a user touched, in the block of each modality."""

    def __init__(
        self,
        item_vectors: ItemVectors,
        *,
        config: PoolingConfig,
        user_vectors: Embeddings | None = None,
        as_of: datetime | None = None,
    ) -> None:
        """Prepare for queries.

        Args:
            item_vectors: What histories are looked up in; its other blocks are passed over.
            config: How a history becomes a query.
            user_vectors: The users' own graph vectors, in the items' graph space.
            as_of: The cut before which they were trained; None where there was no cut.

        Raises:
            ValueError: the users' vectors are of another space than the items'.
        """
        self.weights = {
            str(name): float(config.weights.get(name, 1.0)) for name in item_vectors.modalities
        }
        self._items = item_vectors
        self._config = config
        self._users = None
        if user_vectors is not None:
            self._users = GraphUsers(item_vectors, user_vectors, as_of=as_of)

    def encode_many(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        return [self._encode(query) for query in queries]

    def _encode(self, query: Query) -> EncodedQuery:
        pooled_D, weight_M = self._pool(query)
        vectors: dict[str, NDArray[np.float32]] = {}
        agreement: dict[str, float] = {}
        for name, weight in zip(self._items.names, weight_M.tolist(), strict=True):
            is_asked = query.modalities is None or name in query.modalities
            if name not in self.weights or not is_asked:
                continue
            block_D = pooled_D[self._items.columns_of[name]]
            norm = math.sqrt(block_D @ block_D)
            unit_D = (block_D / np.float32(norm)) if norm > TINY else None
            if name == Modality.GRAPH:
                unit_D = self._blended(unit_D, query)
            if unit_D is not None:
                vectors[name] = unit_D
            if weight > 0:
                agreement[name] = norm / weight
        return EncodedQuery(vectors=vectors, agreement=agreement)

    def _pool(self, query: Query) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The weighted sum of the history's vectors, [D], and the weight behind each block, [M]."""
        events = visible_history(query)[-self._config.limit :]
        rows, weights = [], []
        for age, event in enumerate(reversed(events)):
            row = self._items.row_of.get(event.item_id)
            weight = self._config.behavior_weights.get(event.behavior, 1.0)
            if row is not None and weight > 0:
                rows.append(row)
                weights.append(weight * 0.5 ** (age / self._config.half_life))
        weights_H = np.asarray(weights, dtype=np.float32)
        pooled_D = weights_H @ self._items.vectors_ND[rows]
        return pooled_D, weights_H @ self._items.is_present_NM[rows].astype(np.float32)

    def _blended(
        self, pooled_D: NDArray[np.float32] | None, query: Query
    ) -> NDArray[np.float32] | None:
        """The pooled history and the user's own vector, in the configured shares."""
        share = self._config.graph_user_share
        user_D = self._users.vector(query) if self._users is not None and share > 0 else None
        if user_D is None:
            return pooled_D
        if pooled_D is None:
            return _unit(user_D)
        return _unit((1 - share) * pooled_D + share * user_D)


def visible_history(query: Query) -> tuple[Interaction, ...]:
    """The events of the query's history before its `as_of`, oldest first.

    Raises:
        ValueError: the history is None, for only the query's caller can look it up.
    """
    if query.history is None:
        raise ValueError(
            f"the query of user {query.user_id!r} has no history: look up the stored one first, "
            f"or give an empty one"
        )
    if query.as_of is None:
        return query.history
    return tuple(
        event for event in query.history if event.timestamp is None or event.timestamp < query.as_of
    )


def _unit(vector_D: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The vector's direction; None where it has none."""
    norm = float(np.linalg.norm(vector_D))
    return (vector_D / norm).astype(np.float32) if norm > TINY else None
