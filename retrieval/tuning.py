"""Queries and what was chosen after them in, the pooling that finds more of it out.

Which block tells most of what people choose next differs from catalog to catalog. So the
blocks' weights, the share of the user's own graph vector and the half-life are fitted on
moments of the past, by a search along one of them at a time over a few coarse steps: a finer
search would fit the accidents of some hundred moments.

A moment's value is recall@depth + 0.1 * NDCG. Recall is what a reranker lives on, but it moves in
jumps; the NDCG, taken over the whole catalog, also sees a chosen item come closer to the depth
without crossing it. A change is kept only if recall does not fall and the mean value rises by more
than 0.002 and by more than one standard error of the paired differences; a weight becomes 0 only
if it gains twice that over a small weight. So what does not help stays as it was.

A moment is scored as the retriever scores it, except that items of equal score share the mean of
their ranks. Moments of which nothing is known are left out, for popularity answers them.

Shape legend: Q moments, N items that have any vector, D dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.vectors import Embeddings
from retrieval.base import QueryEncoder
from retrieval.candidates import Query
from retrieval.composed import QueryVectors, query_encoder
from retrieval.concatenated import SEQUENCE, ItemVectors
from retrieval.order import check_limit
from retrieval.pooled import PoolingConfig, visible_history

Cosines = Mapping[str, NDArray[np.float32]]

# Of the strongest other block; 0 is tried apart. The last sinks all others at once: one by one,
# each that sinks leaves the noise of the rest, and gains nothing.
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
USER_SHARES = (0.0, 0.25, 0.5, 0.75)
HALF_LIVES = (5.0, 20.0, 80.0)
NDCG_SHARE = 0.1
MARGIN = 0.002  # the least gain worth a change
PASSES = 3  # over all that is fitted; most searches stand still after two
MAX_MOMENTS, MIN_MOMENTS = 1000, 100
FEWEST = 10  # moments; of fewer, no error can be estimated
MAX_BYTES = 2**28  # of one set of cosines; a larger catalog is fitted on fewer moments
BLOCK = 128  # moments whose scores are sorted at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """A query and its truth, by columns of the score matrix."""

    query: Query
    chosen: NDArray[np.int64]
    """Those that can be found; hidden ones and those without any vector cannot."""
    hidden: NDArray[np.int64]
    num_chosen: int
    """All of them, so that recall is the share of what was chosen and not of what can be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One pooling, the cosines that it gives, and how good it is at each moment."""

    pooling: PoolingConfig
    cosines: Cosines
    recall_Q: NDArray[np.float64]
    value_Q: NDArray[np.float64]


def fit_weights(
    queries: Sequence[Query],
    chosen: Sequence[frozenset[str]],
    *,
    item_vectors: ItemVectors,
    user_vectors: Embeddings | None,
    as_of: datetime | None,
    pooling: PoolingConfig,
    depth: int = 100,
    seed: int = 0,
    sequence: QueryVectors | None = None,
) -> PoolingConfig:
    """Fit `weights`, `graph_user_share` and `half_life`, starting from `pooling`.

    The moments must lie before the cut that is measured later, and after the one up to which the
    graph and the network over histories were trained: whatever saw their choices would seem to
    know everything.

    Args:
        queries: The moments, each with its history. At most 1000 are drawn.
        chosen: What was chosen after each; moments without a choice are left out.
        item_vectors: What is searched.
        user_vectors: The users' own graph vectors, if any.
        as_of: The cut before which they were trained; None where there is no cut.
        pooling: Where the search starts; what is not fitted stays.
        depth: How many candidates are retrieved.
        seed: Of the draw.
        sequence: The trained network, where there is a block of it.

    Returns:
        `pooling` itself where nothing helps, or where fewer than 10 moments tell anything. Else
        weights for all blocks, if any changed, the strongest as large as it was. Equal input
        gives equal output.

    Raises:
        ValueError: not one set of choices for each query, a history that is None, a depth below
            1, or training on events after a query's `as_of`.
    """
    check_limit(depth)
    if len(queries) != len(chosen):
        raise ValueError(f"{len(queries)} queries came with {len(chosen)} sets of choices")
    _check_time(queries, item_vectors, as_of)
    fitting = _Fitting(
        _drawn(queries, chosen, len(item_vectors) * len(item_vectors.names), seed),
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        as_of=as_of,
        pooling=pooling,
        depth=depth,
        sequence=sequence,
    )
    if fitting.num_moments < FEWEST:
        return pooling
    best = fitting.measured(pooling)
    for _ in range(PASSES):
        before = best
        for name in item_vectors.names:
            best = _reweighted(fitting, best, name)
        if user_vectors is not None:
            best = _best(
                fitting, best, [replace(best.pooling, graph_user_share=x) for x in USER_SHARES]
            )
        best = _best(fitting, best, [replace(best.pooling, half_life=x) for x in HALF_LIVES])
        if best is before:
            break
    return best.pooling


class _Fitting:
    """The moments, ready to be measured under any pooling."""

    def __init__(
        self,
        pairs: Sequence[tuple[Query, frozenset[str]]],
        *,
        item_vectors: ItemVectors,
        user_vectors: Embeddings | None,
        as_of: datetime | None,
        pooling: PoolingConfig,
        depth: int,
        sequence: QueryVectors | None = None,
    ) -> None:
        self.names = item_vectors.names
        self._items, self._users, self._as_of = item_vectors, user_vectors, as_of
        self._sequence = sequence
        self._depth = depth
        self._rows_N = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
        column_of = {item_vectors.item_ids[row]: i for i, row in enumerate(self._rows_N.tolist())}
        encoded = self._encoder(pooling).encode_many([query for query, _ in pairs])
        self._moments = [
            _moment(query, items, column_of)
            for (query, items), known in zip(pairs, encoded, strict=True)
            if known.vectors
        ]

    @property
    def num_moments(self) -> int:
        """With a choice, and with something known of whoever chose."""
        return len(self._moments)

    def measured(self, pooling: PoolingConfig, near: _Measured | None = None) -> _Measured:
        """The pooling's value at each moment; cosines that `near` shares are not computed anew."""
        cosines = self._cosines(pooling, near)
        weights = self._encoder(pooling).weights
        recall_Q, value_Q = np.zeros(len(self._moments)), np.zeros(len(self._moments))
        for start in range(0, len(self._moments), BLOCK):
            rows = slice(start, start + BLOCK)
            scores_QN = sum(
                np.float32(weights[name]) * cosines_QN[rows] for name, cosines_QN in cosines.items()
            )
            assert isinstance(scores_QN, np.ndarray)
            for place, ranks, moment in self._ranks(scores_QN, start):
                found = float((ranks <= self._depth).sum()) / moment.num_chosen
                recall_Q[place] = found
                value_Q[place] = found + NDCG_SHARE * _ndcg(ranks, moment.num_chosen)
        return _Measured(pooling=pooling, cosines=cosines, recall_Q=recall_Q, value_Q=value_Q)

    def _ranks(
        self, scores_QN: NDArray[np.float32], start: int
    ) -> Iterator[tuple[int, NDArray[np.float64], _Moment]]:
        """Each moment's place and the ranks of its chosen items, from 1."""
        moments = self._moments[start : start + len(scores_QN)]
        for scores_N, moment in zip(scores_QN, moments, strict=True):
            scores_N[moment.hidden] = -np.inf
        for place, moment in enumerate(moments):
            scores_N = scores_QN[place]
            chosen_C1 = scores_N[moment.chosen][:, None]
            num_above_C = (scores_N > chosen_C1).sum(axis=1)
            num_equal_C = (scores_N == chosen_C1).sum(axis=1)
            yield start + place, num_above_C + (num_equal_C + 1) / 2, moment

    def _cosines(self, pooling: PoolingConfig, near: _Measured | None) -> Cosines:
        """Of each moment's query with every item, for each block; 0 where either is absent."""
        stale = set(self.names)
        if near is not None and near.pooling.half_life == pooling.half_life:
            is_same = near.pooling.graph_user_share == pooling.graph_user_share
            stale = set() if is_same else stale & {str(Modality.GRAPH)}
        known = {} if near is None else near.cosines
        if not stale:
            return known
        if known:  # the network over histories pools nothing, so that nothing of it is stale
            stale -= {SEQUENCE}
        names = frozenset(stale)
        asked = [replace(moment.query, modalities=names) for moment in self._moments]
        encoded = self._encoder(pooling).encode_many(asked)
        cosines = {}
        for name in self.names:
            if name not in stale:
                cosines[name] = known[name]
                continue
            absent_D = np.zeros(self._items.space(name).dim, dtype=np.float32)
            queries_QD = np.stack([one.vectors.get(name, absent_D) for one in encoded])
            cosines[name] = queries_QD @ self._items.block(name)[self._rows_N].T
        return cosines

    def _encoder(self, pooling: PoolingConfig) -> QueryEncoder:
        return query_encoder(
            self._items,
            pooling=pooling,
            user_vectors=self._users,
            as_of=self._as_of,
            sequence=self._sequence,
        )


def _reweighted(fitting: _Fitting, best: _Measured, name: str) -> _Measured:
    """The best weight of one block while the others stay as they are."""
    weights = {one: float(best.pooling.weights.get(one, 1.0)) for one in fitting.names}
    strongest = max((weights[one] for one in weights if one != name), default=0.0)
    if strongest == 0:  # it is the only one that counts, so its weight says nothing
        return best

    def weighing(step: float) -> PoolingConfig:
        changed = weights | {name: step * strongest}
        scale = max(weights.values()) / max(changed.values())
        return replace(
            best.pooling, weights={one: round(scale * x, 6) for one, x in changed.items()}
        )

    steps = [step for step in WEIGHTS if step * strongest != weights[name]]
    best = _best(fitting, best, [weighing(step) for step in steps])
    without = fitting.measured(weighing(0.0), best)
    rivals = (best, fitting.measured(weighing(WEIGHTS[0]), best))
    return without if all(_gains(without, one, clearness=2) for one in rivals) else best


def _best(fitting: _Fitting, start: _Measured, poolings: Sequence[PoolingConfig]) -> _Measured:
    """The best of the poolings where it gains enough over the start, else the start."""
    best = start
    for pooling in poolings:
        if pooling == start.pooling:
            continue
        tried = fitting.measured(pooling, start)
        if tried.value_Q.mean() > best.value_Q.mean() and _gains(tried, start):
            best = tried
    return best


def _gains(new: _Measured, old: _Measured, *, clearness: float = 1) -> bool:
    """Whether the new one finds no less and is better by more than chance would have it."""
    gains_Q = new.value_Q - old.value_Q
    error = float(gains_Q.std(ddof=1)) / len(gains_Q) ** 0.5
    finds_no_less = new.recall_Q.mean() >= old.recall_Q.mean()
    return bool(finds_no_less and gains_Q.mean() > clearness * max(MARGIN, error))


def _ndcg(ranks: NDArray[np.float64], num_chosen: int) -> float:
    ideal = (1 / np.log2(np.arange(num_chosen) + 2)).sum()
    return float((1 / np.log2(ranks + 1)).sum() / ideal)


def _moment(query: Query, items: frozenset[str], column_of: Mapping[str, int]) -> _Moment:
    """The query's truth by columns; hidden is what the retriever would hide."""
    hidden = set(query.exclude)
    if query.exclude_seen:
        hidden.update(event.item_id for event in visible_history(query))
    chosen = sorted(column_of[one] for one in items - hidden if one in column_of)
    return _Moment(
        query=query,
        chosen=np.array(chosen, dtype=np.int64),
        hidden=np.array(sorted(column_of[one] for one in hidden if one in column_of), np.int64),
        num_chosen=len(items),
    )


def _drawn(
    queries: Sequence[Query], chosen: Sequence[frozenset[str]], num_cosines: int, seed: int
) -> list[tuple[Query, frozenset[str]]]:
    """The moments with a choice, or an even draw of as many as memory allows, in their order."""
    places = [place for place, items in enumerate(chosen) if items]
    affordable = MAX_BYTES // max(num_cosines * np.dtype(np.float32).itemsize, 1)
    limit = min(MAX_MOMENTS, max(MIN_MOMENTS, affordable))
    if len(places) > limit:
        drawn = np.random.default_rng(seed).choice(len(places), size=limit, replace=False)
        places = [places[i] for i in np.sort(drawn)]
    return [(queries[place], chosen[place]) for place in places]


def _check_time(
    queries: Sequence[Query], item_vectors: ItemVectors, as_of: datetime | None
) -> None:
    """Refuse training that may have seen what is to be found."""
    trained = [name for name in (Modality.GRAPH, SEQUENCE) if name in item_vectors.names]
    if not trained:
        return
    moments = [query.as_of for query in queries if query.as_of is not None]
    if moments and (as_of is None or min(moments) < as_of):
        raise ValueError(
            f"{' and '.join(trained)} vectors were trained on events before {as_of or 'any time'}, "
            f"but a moment to fit on is at {min(moments)}: train on events before the earliest one"
        )
