"""Queries in, their users' own graph vectors out, where the graph may be asked.

A graph trains a vector for every user that it met. It knows the user's events up to the cut of
its training, so a query as of an earlier moment must not see it.

Shape legend: U users, D dimensions of the graph's block.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors


class GraphUsers:
    """The users' vectors, placed where the items' graph vectors lie."""

    def __init__(
        self, item_vectors: ItemVectors, vectors: Embeddings, *, as_of: datetime | None
    ) -> None:
        """Prepare for queries.

        Args:
            item_vectors: With the graph's block.
            vectors: The users' own, in the items' graph space.
            as_of: The cut before which they were trained; None where there was no cut.

        Raises:
            ValueError: the users' vectors are of another space than the items'.
        """
        self._vectors_UD = item_vectors.place(vectors)
        self._row_of = {user_id: row for row, user_id in enumerate(vectors.item_ids)}
        self._as_of = as_of

    def vector(self, query: Query) -> NDArray[np.float32] | None:
        """The user's unit vector, [D]; None for a stranger, or where it knows too much."""
        row = self._row_of.get(query.user_id)
        if row is None or knows_the_future(query, trained_until=self._as_of):
            return None
        vector_D: NDArray[np.float32] = self._vectors_UD[row]
        return vector_D


def knows_the_future(query: Query, *, trained_until: datetime | None) -> bool:
    """Whether what was trained until then saw events that the query must not know of.

    None as the end of training means that everything was seen.
    """
    return query.as_of is not None and (trained_until is None or trained_until > query.as_of)
