"""A history in, one query vector for each modality out: the recent items' mean, newest heaviest.

In each space the items of the history are summed, each event weighing half as much as one
`half_life` events later, times its behavior's weight; the sum is normalized. In the graph space it
is blended with the user's own vector, where LightGCN trained one.

`as_of` hides: an event counts only if it came strictly before it (or states no time), and a user's
graph vector only if it was trained on nothing later.

Shape legend: H events of a history, M modalities, D dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings
from retrieval.base import QueryEncoder
from retrieval.candidates import Query
from retrieval.concatenated import TINY, ItemVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingConfig:
    """How a history becomes a query."""

    limit: int = 50
    """Only so many newest events count."""
    half_life: float = 20
    """In events: an event weighs half as much as one that came so many events later."""
    behavior_weights: Mapping[str, float] = field(default_factory=dict)
    """A behavior that is left out weighs 1; one of weight 0 is not looked at."""
    weights: Mapping[Modality, float] = field(default_factory=dict)
    """How much each modality's cosine counts; a modality that is left out weighs 1."""
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
        for modality in self.weights:
            if modality not in list(Modality):
                known = ", ".join(Modality)
                raise ValueError(f"weights: no modality {str(modality)!r}; choose among {known}")


class PooledHistory(QueryEncoder):
    """The decayed mean of what a user touched, in each space."""

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
            item_vectors: What histories are looked up in.
            config: How a history becomes a query.
            user_vectors: The users' own graph vectors, in the items' graph space.
            as_of: The cut before which they were trained; None where there was no cut.

        Raises:
            ValueError: the users' vectors are of another space than the items'.
        """
        self.weights = {
            modality: float(config.weights.get(modality, 1.0))
            for modality in item_vectors.modalities
        }
        self._items = item_vectors
        self._config = config
        self._as_of = as_of
        self._user_rows: dict[str, int] = {}
        if user_vectors is not None:
            self._users_UD = item_vectors.place(user_vectors)
            self._user_rows = {one: row for row, one in enumerate(user_vectors.item_ids)}

    def agreement(self, query: Query) -> dict[Modality, float]:
        pooled_D, weight_M = self._pool(query)
        return {
            modality: float(np.linalg.norm(pooled_D[columns]) / weight)
            for (modality, columns), weight in zip(
                self._items.columns_of.items(), weight_M.tolist(), strict=True
            )
            if weight > 0
        }

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

    def encode(self, query: Query) -> dict[Modality, NDArray[np.float32]]:
        pooled_D, _ = self._pool(query)
        encoded = {}
        for modality, columns in self._items.columns_of.items():
            if query.modalities is not None and modality not in query.modalities:
                continue
            unit_D = _unit(pooled_D[columns])
            if modality is Modality.GRAPH:
                unit_D = self._blend(unit_D, query)
            if unit_D is not None:
                encoded[modality] = unit_D
        return encoded

    def _blend(
        self, pooled_D: NDArray[np.float32] | None, query: Query
    ) -> NDArray[np.float32] | None:
        row = self._user_rows.get(query.user_id)
        share = self._config.graph_user_share
        if row is None or share == 0 or self._knows_the_future_of(query):
            return pooled_D
        user_D = self._users_UD[row]
        if pooled_D is None:
            return _unit(user_D)
        return _unit((1 - share) * pooled_D + share * user_D)

    def _knows_the_future_of(self, query: Query) -> bool:
        """Whether the users' vectors saw events that the query must not know of."""
        return query.as_of is not None and (self._as_of is None or self._as_of > query.as_of)


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
