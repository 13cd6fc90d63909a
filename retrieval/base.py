"""The contracts of retrieval: an index searches one space, a query encoder speaks it.

Shape legend: Q queries, N items, D dimensions, K results.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Index(ABC):
    """Item ids and their vectors, searched by inner product."""

    dim: int

    @abstractmethod
    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        """Add items that the index does not hold yet.

        Raises:
            ValueError: a wrong dimension, a value that is not finite, or an id held already.
        """

    @abstractmethod
    def search(
        self, queries_QD: NDArray[np.float32], *, limit: int
    ) -> list[list[tuple[str, float]]]:
        """For each query at most `limit` (item id, score) pairs, best first, ties by item id.

        Fewer are returned where the index holds fewer; never a placeholder.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the index to one file, replaced atomically."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """The index that `save` wrote.

        Raises:
            ValueError: the file is missing or damaged; the message says how to rebuild it.
        """

    @abstractmethod
    def __len__(self) -> int: ...
