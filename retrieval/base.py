"""The contracts of retrieval: an index searches one space, a query encoder speaks it.

Shape legend: Q queries, N items, M modalities, D dimensions, K results.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from retrieval.candidates import Query

REPAIR = "run `sommelier index` to build it again"


class UnusableIndex(ValueError):
    """An index on disk is missing, damaged or of another space; the message says what to run."""


class Index(ABC):
    """Item ids and their vectors, searched by inner product."""

    dim: int

    efforts: tuple[int, ...] = ()
    """What `effort` is tried at, rising: lists probed (IVF), candidates kept (HNSW). Empty where
    search is exact."""

    effort: int = 0
    """How hard a search looks unless it is told; 0 where search is exact. May be set."""

    @property
    @abstractmethod
    def item_ids(self) -> Sequence[str]:
        """The items in the order of rows, which is the order in which they were added."""

    @abstractmethod
    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        """Add items that the index does not hold yet.

        An index that needs training is trained on the first of them, on a seeded sample.

        Raises:
            ValueError: a wrong dimension, a value that is not finite, or an id held already.
        """

    @abstractmethod
    def search(
        self,
        queries_QD: NDArray[np.float32],
        *,
        limit: int,
        allowed_N: NDArray[np.bool_] | None = None,
        effort: int | None = None,
    ) -> list[list[tuple[str, float]]]:
        """For each query at most `limit` (item id, score) pairs, best first, ties by item id.

        Fewer are returned where fewer are held or allowed; never a placeholder. An index that
        does not search exactly may also find fewer than there are, or miss some of the best; a
        greater effort finds more. Equal vectors score equally, bit by bit, wherever they lie.

        Args:
            queries_QD: The queries, of any length.
            limit: How many to return at most, for each query.
            allowed_N: By row: whether the item may be returned. None allows all.
            effort: Instead of the index's own; passed over where search is exact.

        Raises:
            ValueError: a wrong dimension or shape, a value that is not finite, or a limit or an
                effort below 1.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the index to one file, replaced atomically."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """The index that `save` wrote.

        Raises:
            UnusableIndex: the file is missing or damaged; the message says how to rebuild it.
        """

    @abstractmethod
    def __len__(self) -> int: ...


class QueryEncoder(ABC):
    """Turns a query into unit vectors, one for each modality in which something is known of it."""

    weights: Mapping[Modality, float]
    """How much each modality's cosine counts in a candidate's score."""

    @abstractmethod
    def encode(self, query: Query) -> dict[Modality, NDArray[np.float32]]:
        """The query's unit vector in each space; a modality without any evidence is left out.

        An empty answer means that nothing is known: the caller falls back to popularity.

        Raises:
            ValueError: the query's history is None, for only its caller can look it up.
        """

    def agreement(self, query: Query) -> dict[Modality, float]:
        """How far the query's history agrees with itself in each space, in [0, 1]: the length of
        the mean of its unit vectors. Empty for an encoder that pools nothing."""
        return {}
