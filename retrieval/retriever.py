"""A query in, candidates out, best first, each with its cosine in every block.

score = sum over the blocks of weight * cosine, where both the query and the item are present.
The index proposes by that score; the proposed rows are then scored again one by one, so that equal
input gives equal output whether queries come alone or in a batch. An item that lacks a block
gets 0 for it, the cosine of the average item (`retrieval.concatenated` says why).

Items new to the graph are found by their content at once. A query of which nothing is known gets
the most popular items, scored by their share of the most popular one's count, without evidence.

Shape legend: Q queries, N items, K candidates, M blocks, D dimensions.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings
from retrieval.attributes import Attributes
from retrieval.base import Index, QueryEncoder
from retrieval.brought import exchanged, relisted
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.exact_ranks import RankedQuery, ranks
from retrieval.fusion import Fusion, Listed
from retrieval.lists import fused, listed, with_lists
from retrieval.order import MARGIN, check_limit
from retrieval.planner import Searcher
from retrieval.pooled import visible_history
from retrieval.popularity import Popular
from retrieval.scoring import Asked, Scored, scored, weighted

QUERY_BLOCK = 64  # queries that are searched in one call of the index
ENCODED_BLOCK = 1024  # queries that are encoded in one call: what bounds memory


class Retriever:
    """Searches the concatenated space. Safe to call from several threads."""

    def __init__(
        self,
        index: Index,
        item_vectors: ItemVectors,
        query_encoder: QueryEncoder,
        *,
        popularity: Iterable[tuple[str, float]],
        attributes: Attributes | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        """Join the parts.

        Args:
            index: The items that have any vector, in the concatenated space.
            item_vectors: All items.
            query_encoder: Whose weights score.
            popularity: (item id, count), most popular first; items that are not among
                `item_vectors` are passed over.
            attributes: Of the items, for filters; without them, filters may name items only.
            fusion: What makes one order of a list for each block; None orders by the weighted sum
                of cosines.

        Raises:
            ValueError: index and vectors differ in their dimensions.
        """
        if index.dim != item_vectors.dim:
            raise ValueError(
                f"the index has {index.dim} dimensions and the item vectors {item_vectors.dim}: "
                f"build both from the same spaces"
            )
        self.index = index
        self._searcher = Searcher(index, item_vectors, attributes)
        self.items = item_vectors
        self.encoder = query_encoder
        self._fusion = fusion
        self.attributes = attributes or Attributes(item_vectors.item_ids, {})
        self._popularity = Popular(popularity, item_vectors.item_ids)

    def reading(self, encoder: QueryEncoder, *, without: frozenset[str]) -> "Retriever":
        """The same with queries encoded otherwise, proposing none of some items, for whoever lays
        changes over it (`retrieval.layered`); nothing is copied. Popularity and `score` know
        nothing of those that are left out."""
        other = copy(self)
        other.encoder = encoder
        other._searcher = self._searcher.without(without)
        return other

    @property
    def weights(self) -> Mapping[str, float]:
        """How much the cosine in each block counts in a candidate's score; with a fusion nothing,
        as such."""
        if self._fusion is not None:
            return dict.fromkeys(self.encoder.weights, 0.0)
        return self.encoder.weights

    def weights_of(self, query: Query) -> Mapping[str, float]:
        """`weights` with those that the query brings."""
        return self.weights if self._fusion is not None else self._weights_of(query)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """At most `limit` candidates, best first, ties by item id.

        Raises:
            ValueError: the query's history is None, a limit below 1, a weight below 0 or of a
                block that there is not, or a filter on an attribute that there is not.
        """
        return self.retrieve_many([query], limit=limit)[0]

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        """`retrieve` for each query, by few searches of the index.

        Raises:
            ValueError: as `retrieve`, of any query.
        """
        answers: list[list[Candidate]] = [[] for _ in queries]
        for asked, proposed in self._proposals(queries, limit):
            if asked.encoded.vectors:
                answers[asked.place] = self._candidates(asked, proposed, self.items)[:limit]
            else:
                answers[asked.place] = self._popularity.candidates(proposed)
        return answers

    def retrieve_ids(
        self, queries: Sequence[Query], *, limit: int
    ) -> list[tuple[list[str], list[float]]]:
        """The item ids and scores of `retrieve_many`, bit by bit, without the evidence.

        About half the work and little memory: for measuring retrieval alone, on many users.

        Raises:
            ValueError: as `retrieve`, of any query.
        """
        answers: list[tuple[list[str], list[float]]] = [([], []) for _ in queries]
        for asked, proposed in self._proposals(queries, limit):
            if asked.encoded.vectors:
                found = self._scored(asked, proposed, self.items)
                best = [self.items.item_ids[row] for row in found.rows_K[:limit].tolist()]
                answers[asked.place] = (best, found.scores_K[:limit].tolist())
            else:
                shares = [self._popularity.shares[item_id] for item_id in proposed]
                answers[asked.place] = (proposed, shares)
        return answers

    def listed(self, queries: Sequence[Query], *, limit: int) -> list[tuple[list[str], Listed]]:
        """What the blocks' lists say about each query's proposals, for a fusion to be fitted on.

        Nothing is said where nothing is known of a query, or where there is no fusion.

        Raises:
            ValueError: as `retrieve`, of any query.
        """
        nothing = Listed.nothing()
        answers: list[tuple[list[str], Listed]] = [([], nothing) for _ in queries]
        for asked, proposed in self._proposals(queries, limit):
            if asked.lists is not None:
                plain = scored(asked, self.items, proposed)
                item_ids = [self.items.item_ids[row] for row in plain.rows_K.tolist()]
                answers[asked.place] = (item_ids, listed(asked, plain, self.items))
        return answers

    def score(
        self, query: Query, item_ids: Sequence[str], *, brought: Sequence[Embeddings] = ()
    ) -> list[Candidate]:
        """The known ones among `item_ids`, best first, ties by item id; none is left out.

        Args:
            query: Whose.
            item_ids: Distinct.
            brought: Vectors for some of them, of one space each, in the place of those that are
                held; who has any is known.

        Raises:
            ValueError: the query's history is None, an item is named twice, or a weight is below
                0 or of a block that there is not, or vectors are of a space that there is not.
        """
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("an item is named twice")
        asked = self._asked([query], 0)[0]
        items = exchanged(self.items, item_ids, brought) if brought else self.items
        known = [item_id for item_id in item_ids if item_id in items.row_of]
        if not asked.encoded.vectors:
            return self._popularity.candidates(self._popularity.ordered(known))
        if brought and self._fusion is not None:
            asked = self._with_lists([asked])[0]
            asked = relisted(asked, self.items, items, brought, depth=self._fusion.depth)
        return self._candidates(asked, known, items)

    def exact_ranks(
        self, queries: Sequence[Query], item_ids: Sequence[Collection[str]]
    ) -> list[dict[str, int]]:
        """Where items stand when the whole catalog is scored exactly, without index or fusion.

        That is the rank, from 1, that `retrieve` with a limit of the catalog's size over an exact
        index would give them. Work and memory are bounded by blocks of queries.

        Args:
            queries: As `retrieve` takes them.
            item_ids: For each query, the items asked for.

        Returns:
            For each query, the ranks of those items. One that is unknown, hidden, not allowed by
            the filter, or without any vector (where something is known of the query) is absent.

        Raises:
            ValueError: as `retrieve`, or not one set of items for each query.
        """
        if len(item_ids) != len(queries):
            raise ValueError(f"{len(queries)} queries came with {len(item_ids)} sets of items")
        found: list[dict[str, int]] = [{} for _ in queries]
        for start in range(0, len(queries), ENCODED_BLOCK):
            block = [
                RankedQuery(
                    vectors=one.encoded.vectors,
                    weights=one.weights,
                    is_allowed_N=self._is_allowed(one),
                    item_ids=frozenset(item_ids[one.place]),
                )
                for one in self._asked(queries, start)
            ]
            order = self._popularity.order
            found[start : start + len(block)] = ranks(block, self.items, by_popularity=order)
        return found

    def _asked(self, queries: Sequence[Query], start: int) -> list[Asked]:
        """One block of the queries, encoded."""
        block = queries[start : start + ENCODED_BLOCK]
        encoded = self.encoder.encode_many(block)
        return [
            Asked(
                place=start + place,
                query=query,
                encoded=one,
                weights=self._weights_of(query),
                hidden=self._hidden(query),
            )
            for place, (query, one) in enumerate(zip(block, encoded, strict=True))
        ]

    def _proposals(self, queries: Sequence[Query], limit: int) -> Iterator[tuple[Asked, list[str]]]:
        """Each query with the items to choose its answer from, a few more than `limit`; where
        nothing is known of a query, with the answer itself."""
        check_limit(limit)
        for start in range(0, len(queries), ENCODED_BLOCK):
            asked = self._asked(queries, start)
            for one in asked:
                if not one.encoded.vectors:
                    yield one, self._popular(one, limit)
            known = [one for one in asked if one.encoded.vectors]
            by_filter: dict[object, list[Asked]] = {}
            for one in known:
                by_filter.setdefault(one.query.filters, []).append(one)
            for group in by_filter.values():
                # Neighbors in a block hide about equally many items: few are fetched in vain.
                group.sort(key=lambda one: len(one.hidden))
                for first in range(0, len(group), QUERY_BLOCK):
                    yield from self._searched(group[first : first + QUERY_BLOCK], limit)

    def _searched(self, block: Sequence[Asked], limit: int) -> Iterator[tuple[Asked, list[str]]]:
        """Queries of one filter, in one search."""
        queries_QD = np.stack(
            [weighted(one.encoded.vectors, one.weights, self.items) for one in block]
        )
        num_rows = limit + MARGIN + len(block[-1].hidden)
        filter = block[0].query.filters
        found = self._searcher.search(queries_QD, limit=num_rows, filter=filter)
        if self._fusion is not None:
            block = self._with_lists(block)
        for one, pairs in zip(block, found, strict=True):
            item_ids = [item_id for item_id, _ in pairs if item_id not in one.hidden]
            proposed = dict.fromkeys(item_ids[: limit + MARGIN])
            for ranks_of_block in (one.lists or {}).values():
                proposed.update(dict.fromkeys(ranks_of_block))
            yield one, list(proposed)

    def _with_lists(self, asked: Sequence[Asked]) -> list[Asked]:
        assert self._fusion is not None
        return with_lists(asked, self._searcher, self.items, depth=self._fusion.depth)

    def _weights_of(self, query: Query) -> Mapping[str, float]:
        """The encoder's weights, with those that the query brings."""
        if not query.weights:
            return self.encoder.weights
        for name, weight in query.weights.items():
            if name not in self.encoder.weights:
                known = ", ".join(sorted(self.encoder.weights))
                raise ValueError(f"weights: no block {str(name)!r} to weigh; there are: {known}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weights[{str(name)!r}] must be 0 or more, got {weight}")
        return {**self.encoder.weights, **query.weights}

    def _hidden(self, query: Query) -> frozenset[str]:
        hidden = set(query.exclude)
        if query.exclude_seen:
            hidden.update(event.item_id for event in visible_history(query))
        return frozenset(hidden & self.items.row_of.keys())

    def _is_allowed(self, asked: Asked) -> NDArray[np.bool_]:
        """Which items may be in the answer, [N]."""
        allowed_N = np.ones(len(self.items), dtype=np.bool_)
        if asked.query.filters is not None:
            allowed_N &= self.attributes.allowed(asked.query.filters, self.items.item_ids)
        allowed_N[[self.items.row_of[item_id] for item_id in asked.hidden]] = False
        return allowed_N

    def _scored(self, asked: Asked, item_ids: Sequence[str], items: ItemVectors) -> Scored:
        """These known items, each by itself, in order."""
        plain = scored(asked, items, item_ids)
        if self._fusion is None:
            return plain
        if asked.lists is None:
            asked = self._with_lists([asked])[0]
        return fused(asked, plain, items, self._fusion)

    def _candidates(
        self, asked: Asked, item_ids: Sequence[str], items: ItemVectors
    ) -> list[Candidate]:
        """Score these known items by themselves and put them in order."""
        found = self._scored(asked, item_ids, items)
        evidence: list[dict[str, float]] = [{} for _ in found.rows_K]
        for name, cosines_K in found.cosines.items():
            is_there_K = items.is_present(name)[found.rows_K].tolist()
            for shown, cosine, is_there in zip(
                evidence, cosines_K.tolist(), is_there_K, strict=True
            ):
                if is_there:
                    shown[name] = cosine
        agreement = asked.encoded.agreement
        return [
            Candidate(
                item_id=items.item_ids[row],
                score=score,
                rank=rank,
                evidence=shown,
                support={one: x * agreement[one] for one, x in shown.items() if one in agreement},
            )
            for rank, (row, score, shown) in enumerate(
                zip(found.rows_K.tolist(), found.scores_K.tolist(), evidence, strict=True), start=1
            )
        ]

    def _popular(self, asked: Asked, limit: int) -> list[str]:
        """The most popular items that may be in the answer."""
        if asked.query.filters is None:
            wanted = self._popularity.order[: limit + len(asked.hidden)]
            return [one for one in wanted if one not in asked.hidden][:limit]
        allowed_N = self._is_allowed(asked).tolist()
        row_of = self.items.row_of
        return [one for one in self._popularity.order if allowed_N[row_of[one]]][:limit]
