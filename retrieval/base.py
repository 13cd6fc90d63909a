"""The contracts of retrieval: an index searches the concatenated space, a query encoder
speaks some of its blocks.

Shape legend: Q queries, N items, D dimensions, K results.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedQuery:
    """What is known of a query, block by block."""

    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """The query's unit vector in each block; a block without any evidence is left out. Empty
    where nothing is known: the caller falls back to popularity."""
    agreement: Mapping[str, float] = field(default_factory=dict)
    """How far the query's history agrees with itself in each block, in [0, 1]: the length of the
    mean of its unit vectors. Blocks in which nothing is pooled are left out."""


class QueryEncoder(ABC):
    """Turns queries into unit vectors, one for each block in which something is known of them."""

    weights: Mapping[str, float]
    """How much the cosine in each block counts in a candidate's score, by the block's name."""

    @abstractmethod
    def encode_many(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        """Each query, in order; the answer to one does not depend on the others.

        Raises:
            ValueError: a query's history is None, for only its caller can look it up.
        """

    def encode(self, query: Query) -> EncodedQuery:
        """One query alone, bit by bit as among others."""
        return self.encode_many([query])[0]
