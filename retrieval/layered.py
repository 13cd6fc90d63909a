"""Queries in, candidates of an index and of the changes since out, as one index would give them.

Both layers are asked. A candidate's score does not depend on the layer that it lies in, so the two
lists, in one order, are what one index of all items would answer. Histories are looked up in both
layers too.

Shape legend: N items.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from heapq import merge
from itertools import chain, groupby, islice

from retrieval.attributes import Attributes, check
from retrieval.base import EncodedQuery, QueryEncoder
from retrieval.candidates import Candidate, Query
from retrieval.exact import ExactIndex
from retrieval.filters import Filter
from retrieval.layers import Layers, Main
from retrieval.order import check_limit
from retrieval.pooled import visible_history
from retrieval.retriever import Retriever


class _Encoded(QueryEncoder):
    """Queries that were encoded already, told apart as objects."""

    def __init__(self, weights: Mapping[str, float], by_query: Mapping[int, EncodedQuery]) -> None:
        self.weights = weights
        self._by_query = by_query

    def encode_many(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        return [self._by_query[id(query)] for query in queries]


class LayeredRetriever:
    """What `Retriever` offers, over both layers. Safe to call from several threads."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def prepare(self) -> None:
        """Make now what the first query would have to wait for."""
        for layer in (self.layers.main, self.layers.delta):
            assert layer.retriever

    @property
    def weights(self) -> Mapping[str, float]:
        """How much the cosine in each block counts in a candidate's score."""
        return self.layers.main.encoder.weights

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """As `Retriever.retrieve`."""
        return self.retrieve_many([query], limit=limit)[0]

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        """As `Retriever.retrieve_many`."""
        check_limit(limit)
        encoded = self._encode(queries)
        found: list[list[Candidate]] = [[] for _ in queries]
        for layer, view in self._views(encoded):
            asked = [
                place
                for place, query in enumerate(queries)
                if encoded[id(query)].vectors and self._can_match(query, layer.attributes)
            ]
            answers = view.retrieve_many([queries[place] for place in asked], limit=limit)
            for place, candidates in zip(asked, answers, strict=True):
                found[place] += candidates
        return [
            _in_order(candidates)[:limit]
            if encoded[id(query)].vectors
            else self._by_popularity(islice(self._popular(query), limit))
            for query, candidates in zip(queries, found, strict=True)
        ]

    def retrieve_ids(
        self, queries: Sequence[Query], *, limit: int
    ) -> list[tuple[list[str], list[float]]]:
        """As `Retriever.retrieve_ids`."""
        found = self.retrieve_many(queries, limit=limit)
        return [([one.item_id for one in some], [one.score for one in some]) for some in found]

    def score(self, query: Query, item_ids: Sequence[str]) -> list[Candidate]:
        """As `Retriever.score`."""
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("an item is named twice")
        encoded = self._encode([query])
        known = [one for one in item_ids if self.layers.holds(one)]
        if not encoded[id(query)].vectors:
            counts = self.layers.main.counts
            return self._by_popularity(sorted(known, key=lambda one: (-counts.get(one, 0.0), one)))
        found: list[Candidate] = []
        for layer, view in self._views(encoded):
            is_delta = layer is self.layers.delta
            found += view.score(
                query, [one for one in known if (one in self.layers.changed) is is_delta]
            )
        return _in_order(found)

    def exact_ranks(
        self, queries: Sequence[Query], item_ids: Sequence[Collection[str]]
    ) -> list[dict[str, int]]:
        """As `Retriever.exact_ranks`; joins the layers into one matrix for it, once."""
        return self._whole.exact_ranks(queries, item_ids)

    @cached_property
    def _whole(self) -> Retriever:
        """All items, without any index, for what scores them all."""
        main, items = self.layers.main, self.layers.item_vectors
        return Retriever(
            ExactIndex(dim=items.dim),
            items,
            main.encoder_of(items, None),
            popularity=main.popularity,
            attributes=self.layers.attributes,
        )

    def _encode(self, queries: Sequence[Query]) -> dict[int, EncodedQuery]:
        """Each query, with the items of its history as they are now."""
        layers = self.layers
        touched = layers.changed.keys() | layers.removed
        as_ever, anew, met = [], [], set()
        for query in queries:
            history = {event.item_id for event in visible_history(query)}
            if touched.isdisjoint(history):
                as_ever.append(query)
            else:
                anew.append(query)
                met |= history
        encoded = zip(map(id, as_ever), layers.main.encoder.encode_many(as_ever), strict=True)
        if not anew:
            return dict(encoded)
        users = {query.user_id for query in anew}
        encoder = layers.main.encoder_of(layers.taken(met), users)
        return dict(chain(encoded, zip(map(id, anew), encoder.encode_many(anew), strict=True)))

    def _views(self, encoded: Mapping[int, EncodedQuery]) -> Iterator[tuple[Main, Retriever]]:
        """Each layer with its retriever, for these queries."""
        encoder = _Encoded(self.weights, encoded)
        for layer, removed in (
            (self.layers.main, self.layers.removed),
            (self.layers.delta, frozenset[str]()),
        ):
            if len(layer.index):
                yield layer, layer.retriever.reading(encoder, without=removed)

    def _can_match(self, query: Query, attributes: Attributes) -> bool:
        """Whether a layer has what the query's filter asks about, in any item.

        Raises:
            ValueError: no layer has it.
        """
        filter = query.filters or Filter()
        check(filter, self.layers.main.attributes, self.layers.delta.attributes)
        try:
            check(filter, attributes)
        except ValueError:
            return False
        return True

    def _popular(self, query: Query) -> Iterator[str]:
        """What may be the answer where nothing is known, most popular first, ties by item id."""
        main, delta, filter = self.layers.main, self.layers.delta, query.filters or Filter()
        check(filter, main.attributes, delta.attributes)
        hidden = set(query.exclude)
        if query.exclude_seen:
            hidden.update(event.item_id for event in visible_history(query))
        masks = [
            layer.attributes.aligned(layer.item_vectors.item_ids).mask(filter)
            for layer in (main, delta)
        ]
        old = (one for one in main.item_vectors.item_ids if one not in main.counts)
        new = (one for one in delta.item_vectors.item_ids if one not in main.counts)
        for item_id in chain(main.counts, (one for one, _ in groupby(merge(old, new)))):
            if self.layers.holds(item_id) and item_id not in hidden:
                is_changed = item_id in self.layers.changed
                items = (delta if is_changed else main).item_vectors
                if masks[is_changed][items.row_of[item_id]]:
                    yield item_id

    def _by_popularity(self, item_ids: Iterable[str]) -> list[Candidate]:
        """Ordered items as candidates for whom nothing but popularity speaks."""
        counts = self.layers.main.counts
        most = next((count for one, count in counts.items() if self.layers.holds(one)), 1.0)
        return [
            Candidate(item_id=item_id, score=counts.get(item_id, 0.0) / most, rank=rank)
            for rank, item_id in enumerate(item_ids, start=1)
        ]


def _in_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Best first, ties by item id, ranks from 1."""
    ordered = sorted(candidates, key=lambda one: (-one.score, one.item_id))
    return [
        one if one.rank == rank else dataclasses.replace(one, rank=rank)
        for rank, one in enumerate(ordered, start=1)
    ]
