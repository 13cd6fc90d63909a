"""Vectors in, their near neighbors out, by a Milvus server (Wang et al., SIGMOD 2021).

For catalogs whose index outgrows one machine. A collection of the server holds row numbers and
vectors; here are the item ids alone, in the order of rows. Some thousands of items are compared one
and all by the server; more lie in a graph (HNSW), whose efSearch is `effort`. What the server
proposes comes with its vectors and is scored again here, so that scores are true and ties fall by
item id; among more than 16,384 equal items, by what the server proposed.

A saved index is a small file that names the collection: whoever loads it searches the same one.
The server is asked from the first `add` on, and nothing is ever dropped but by `drop`.

Shape legend: Q queries, N items, D dimensions, K rows proposed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.base import REPAIR, Index, UnusableIndex
from retrieval.milvus_collection import MAX_ROWS, ROW, MilvusCollection, Proposed
from retrieval.milvus_server import MilvusServer
from retrieval.order import (
    MARGIN,
    best_first,
    check_added,
    check_allowed,
    check_effort,
    check_finite,
    check_limit,
    exact_scores,
    largest_norm,
    rounding,
)
from retrieval.tensor_file import read, write

FLAT_ITEMS = 16_384
EFFORTS = (64, 128, 256, 512, 1024, 2048)
MAX_NAMED = 32_768  # rows that one search names, some 200 KB
FACTS = "milvus"


class MilvusIndex(Index):
    """One collection, and the ids of its rows."""

    def __init__(self, *, dim: int, server: MilvusServer | None = None) -> None:
        self.dim = dim
        self._server = server or MilvusServer()
        self._collection: MilvusCollection | None = None
        self._item_ids: list[str] = []
        self._held: set[str] = set()
        self._largest_norm = 0.0

    @property
    def item_ids(self) -> Sequence[str]:
        return self._item_ids

    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        vectors_ND = check_added(item_ids, vectors_ND, dim=self.dim, held=self._held)
        if not len(vectors_ND):
            return
        is_first = not len(self)
        if self._collection is None:
            self._use_graph(len(vectors_ND) > FLAT_ITEMS)
            self._collection = MilvusCollection.create(
                dim=self.dim, server=self._server, is_graph=bool(self.efforts)
            )
        self._collection.write(vectors_ND, first_row=len(self))
        if is_first:
            self._collection.settle()
        self._item_ids.extend(item_ids)
        self._held.update(item_ids)
        self._largest_norm = max(self._largest_norm, largest_norm(vectors_ND))

    def _use_graph(self, is_graph: bool) -> None:
        self.efforts = EFFORTS if is_graph else ()
        self.effort = EFFORTS[2] if is_graph else 0

    def search(
        self,
        queries_QD: NDArray[np.float32],
        *,
        limit: int,
        allowed_N: NDArray[np.bool_] | None = None,
        effort: int | None = None,
    ) -> list[list[tuple[str, float]]]:
        check_limit(limit)
        check_effort(effort)
        queries_QD = check_finite(queries_QD, dim=self.dim)
        allowed_N = check_allowed(allowed_N, num_items=len(self))
        num_allowed = len(self) if allowed_N is None else int(allowed_N.sum())
        if self._collection is None or not num_allowed or not len(queries_QD):
            return [[] for _ in queries_QD]
        if min(limit, num_allowed) > MAX_ROWS:
            raise ValueError(
                f"a Milvus server proposes at most {MAX_ROWS:,} items, got a limit of {limit:,}"
            )
        ask = _Ask(
            limit=min(limit, num_allowed),
            effort=0 if not self.efforts else self.effort if effort is None else effort,
            num_allowed=num_allowed,
            allowed_N=allowed_N,
        )
        proposed = self._proposed(queries_QD, ask.num_rows, ask)
        return [
            self._best(query_D, one, ask) for query_D, one in zip(queries_QD, proposed, strict=True)
        ]

    def _proposed(
        self, queries_QD: NDArray[np.float32], num_rows: int, ask: "_Ask"
    ) -> list[Proposed]:
        """At least `num_rows` rows for each query, where the server finds as many."""
        assert self._collection is not None
        found: list[list[Proposed]] = [[] for _ in queries_QD]
        for condition in ask.conditions(len(self)):
            answers = self._collection.propose(
                queries_QD, limit=num_rows, effort=ask.effort, condition=condition
            )
            for parts, answer in zip(found, answers, strict=True):
                parts.append(answer)
        return [(np.concatenate(rows), np.concatenate(some)) for rows, some in map(_zipped, found)]

    def _best(
        self, query_D: NDArray[np.float32], proposed: Proposed, ask: "_Ask"
    ) -> list[tuple[str, float]]:
        """Order one query's rows, asking for more while a tie at the limit may go on beyond."""
        assert self._collection is not None
        slack = rounding(query_D, self._largest_norm)
        num_rows = ask.num_rows
        while _is_open(exact_scores(proposed[1], query_D), num_rows, float(slack), ask):
            num_rows = min(4 * num_rows, ask.num_allowed, MAX_ROWS)
            proposed = self._proposed(query_D[None], num_rows, ask)[0]
        if len(proposed[0]) < num_rows and ask.num_allowed <= MAX_NAMED:  # the graph lost some
            proposed = self._collection.vectors(ask.rows(len(self)))
        rows, vectors_KD = proposed
        item_ids = [self._item_ids[row] for row in rows.tolist()]
        return best_first(item_ids, exact_scores(vectors_KD, query_D), limit=ask.limit)

    def drop(self) -> None:
        """Delete the collection, for every index that names it."""
        if self._collection is not None:
            self._collection.drop()

    def save(self, path: Path) -> None:
        facts = {
            "uri": self._server.uri,
            "collection": "" if self._collection is None else self._collection.name,
            "dim": self.dim,
            "effort": self.effort,
            "largest_norm": self._largest_norm,
        }
        content = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
        write(path, item_ids=self._item_ids, arrays={FACTS: content})

    @classmethod
    def load(cls, path: Path, *, server: MilvusServer | None = None) -> Self:
        """The index that `save` wrote; `server` brings the token, and a uri if it moved.

        Raises:
            UnusableIndex: the file is missing or damaged, the server cannot be reached, or it
                does not hold what the file says.
        """
        item_ids, arrays = read(path, names=[FACTS])
        try:
            facts = json.loads(arrays[FACTS].tobytes())
            index = cls(dim=facts["dim"], server=server or MilvusServer(uri=facts["uri"]))
            index._use_graph(facts["effort"] > 0)
            index.effort = facts["effort"]
            index._largest_norm = facts["largest_norm"]
            name = facts["collection"]
        except (KeyError, TypeError, ValueError) as error:
            raise UnusableIndex(f"{path} is damaged ({error!r}): {REPAIR}") from error
        index._item_ids = item_ids
        index._held = set(item_ids)
        if name:
            index._collection = _opened(name, index, path)
        return index

    def __len__(self) -> int:
        return len(self._item_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What one call of `search` asks for, beside its queries."""

    limit: int
    effort: int
    num_allowed: int
    allowed_N: NDArray[np.bool_] | None

    @property
    def num_rows(self) -> int:
        """How many rows are asked for at first."""
        return min(self.limit + MARGIN, self.num_allowed, MAX_ROWS)

    def rows(self, num_items: int) -> NDArray[np.int64]:
        """The allowed rows."""
        return np.arange(num_items) if self.allowed_N is None else np.flatnonzero(self.allowed_N)

    def conditions(self, num_items: int) -> Iterator[str]:
        """What the server is told of the allowed rows, in as many searches as it takes.

        Rows from `num_items` on are of whoever added to the same collection later.
        """
        ours = f"{ROW} < {num_items}"
        if self.allowed_N is None:
            yield ours
            return
        denied = np.flatnonzero(~self.allowed_N)
        if len(denied) <= MAX_NAMED:
            yield f"{ours} and {ROW} not in {denied.tolist()}"
            return
        rows = self.rows(num_items)
        for start in range(0, len(rows), MAX_NAMED):
            yield f"{ROW} in {rows[start : start + MAX_NAMED].tolist()}"


def _is_open(scores_K: NDArray[np.float32], num_rows: int, slack: float, ask: _Ask) -> bool:
    """Whether rows that were not proposed may tie with the last one sought."""
    if len(scores_K) < num_rows or num_rows == min(ask.num_allowed, MAX_ROWS):
        return False
    best = np.sort(scores_K)[::-1]
    return bool(best[num_rows - 1] >= best[ask.limit - 1] - slack)


def _zipped(parts: Sequence[Proposed]) -> Iterator[tuple[NDArray[Any], ...]]:
    return zip(*parts, strict=True)


def _opened(name: str, index: MilvusIndex, path: Path) -> MilvusCollection:
    """The collection of a loaded index, if it holds what it should."""
    collection = MilvusCollection(name, dim=index.dim, server=index._server)
    if not collection.is_there():
        raise UnusableIndex(f"{path} names the collection {name}, which is gone: {REPAIR}")
    if (count := collection.count()) < len(index):
        raise UnusableIndex(
            f"{path} names {len(index):,} items, but collection {name} holds {count:,}: {REPAIR}"
        )
    return collection
