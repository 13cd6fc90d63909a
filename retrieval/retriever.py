"""A query in, candidates out, best first, each with its cosine in every space.

score = sum over the modalities of weight * cosine, where both the query and the item are present.
The index proposes by that score; the proposed rows are then scored again one by one, so that equal
input gives equal output whether queries come alone or in a batch. An item that lacks a modality
gets 0 for it, the cosine of the average item (`retrieval.concatenated` says why).

Items new to the graph are found by their content at once. A query of which nothing is known gets
the most popular items, scored by their share of the most popular one's count, without evidence.

Shape legend: Q queries, K candidates, M modalities, D dimensions.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from retrieval.base import Index, QueryEncoder
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.order import MARGIN, check_limit
from retrieval.pooled import visible_history

Encoded = dict[Modality, NDArray[np.float32]]

QUERY_BLOCK = 64  # queries that are searched in one call of the index


class Retriever:
    """Searches the concatenated space. Safe to call from several threads."""

    def __init__(
        self,
        index: Index,
        item_vectors: ItemVectors,
        query_encoder: QueryEncoder,
        *,
        popularity: Iterable[tuple[str, float]],
    ) -> None:
        """Join the parts.

        Args:
            index: The items that have any vector, in the concatenated space.
            item_vectors: All items.
            query_encoder: Whose weights score.
            popularity: (item id, count), most popular first; items that are not among
                `item_vectors` are passed over.

        Raises:
            ValueError: index and vectors differ in their dimensions.
        """
        if index.dim != item_vectors.dim:
            raise ValueError(
                f"the index has {index.dim} dimensions and the item vectors {item_vectors.dim}: "
                f"build both from the same spaces"
            )
        self._index = index
        self._items = item_vectors
        self._encoder = query_encoder
        counts = {one: count for one, count in popularity if one in item_vectors.row_of}
        most = max(counts.values(), default=1.0)
        shares = {item_id: counts.get(item_id, 0.0) / most for item_id in item_vectors.item_ids}
        self._by_popularity = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
        self._shares = shares

    @property
    def weights(self) -> Mapping[Modality, float]:
        """How much each modality's cosine counts in a candidate's score."""
        return self._encoder.weights

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """At most `limit` candidates, best first, ties by item id.

        Raises:
            ValueError: the query's history is None, or a limit below 1.
        """
        return self.retrieve_many([query], limit=limit)[0]

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        """`retrieve` for each query, by one search of the index.

        Raises:
            ValueError: a query's history is None, or a limit below 1.
        """
        check_limit(limit)
        encoded = [self._encoder.encode(query) for query in queries]
        hidden = [self._hidden(query) for query in queries]
        answers: list[list[Candidate]] = [[] for _ in queries]
        for row, ids in enumerate(hidden):
            if not encoded[row]:
                answers[row] = self._popular(ids, limit)
        searched = [row for row, one in enumerate(encoded) if one]
        # Neighbors in a block hide about equally many items, so that few are fetched in vain.
        searched.sort(key=lambda row: len(hidden[row]))
        for start in range(0, len(searched), QUERY_BLOCK):
            block = searched[start : start + QUERY_BLOCK]
            queries_QD = np.stack([self._weighted(encoded[row]) for row in block])
            num_rows = limit + MARGIN + len(hidden[block[-1]])
            for row, pairs in zip(
                block, self._index.search(queries_QD, limit=num_rows), strict=True
            ):
                item_ids = [item_id for item_id, _ in pairs if item_id not in hidden[row]]
                candidates = self._candidates(
                    queries[row], encoded[row], item_ids[: limit + MARGIN]
                )
                answers[row] = candidates[:limit]
        return answers

    def score(self, query: Query, item_ids: Sequence[str]) -> list[Candidate]:
        """The known ones among `item_ids`, best first, ties by item id; none is hidden.

        Raises:
            ValueError: the query's history is None, or an item is named twice.
        """
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("an item is named twice")
        encoded = self._encoder.encode(query)
        known = [item_id for item_id in item_ids if item_id in self._items.row_of]
        if encoded:
            return self._candidates(query, encoded, known)
        by_share = sorted(known, key=lambda item_id: (-self._shares[item_id], item_id))
        return self._unfounded([(item_id, self._shares[item_id]) for item_id in by_share])

    def _hidden(self, query: Query) -> set[str]:
        """Known items that the query must not be answered with."""
        hidden = set(query.exclude)
        if query.exclude_seen:
            hidden.update(event.item_id for event in visible_history(query))
        return hidden & self._items.row_of.keys()

    def _weighted(self, encoded: Encoded) -> NDArray[np.float32]:
        """The query in the concatenated space; zeros where it is absent."""
        query_D = np.zeros(self._items.dim, dtype=np.float32)
        for modality, vector_D in encoded.items():
            query_D[self._items.columns_of[modality]] = self._encoder.weights[modality] * vector_D
        return query_D

    def _candidates(
        self, query: Query, encoded: Encoded, item_ids: Sequence[str]
    ) -> list[Candidate]:
        """Score these known items by themselves and put them in order."""
        rows_K = np.array([self._items.row_of[item_id] for item_id in item_ids], dtype=np.int64)
        vectors_KD = self._items.vectors_ND[rows_K]
        is_present_KM = self._items.is_present_NM[rows_K]
        scores_K = np.zeros(len(rows_K))
        cosines: dict[Modality, NDArray[np.float64]] = {}
        for modality, query_D in encoded.items():
            products_KD = vectors_KD[:, self._items.columns_of[modality]] * query_D
            cosines[modality] = products_KD.sum(axis=1).astype(np.float64)
            scores_K += self._encoder.weights[modality] * cosines[modality]
        order_K = np.lexsort((rows_K, -scores_K))  # rows are sorted by item id
        columns = [
            (modality, cosines[modality][order_K].tolist(), is_present_KM[order_K, place].tolist())
            for place, modality in enumerate(self._items.modalities)
            if modality in encoded
        ]
        agreement = self._encoder.agreement(query)
        evidence = [
            {one: values[place] for one, values, there in columns if there[place]}
            for place in range(len(order_K))
        ]
        return [
            Candidate(
                item_id=self._items.item_ids[row],
                score=score,
                rank=place + 1,
                evidence=evidence[place],
                support={one: x * agreement.get(one, 0.0) for one, x in evidence[place].items()},
            )
            for place, (row, score) in enumerate(
                zip(rows_K[order_K].tolist(), scores_K[order_K].tolist(), strict=True)
            )
        ]

    def _popular(self, hidden: set[str], limit: int) -> list[Candidate]:
        wanted = self._by_popularity[: limit + len(hidden)]
        return self._unfounded([pair for pair in wanted if pair[0] not in hidden][:limit])

    def _unfounded(self, pairs: Sequence[tuple[str, float]]) -> list[Candidate]:
        """Candidates for whom nothing but popularity speaks."""
        return [
            Candidate(item_id=item_id, score=share, rank=rank)
            for rank, (item_id, share) in enumerate(pairs, start=1)
        ]
