"""Histories and a retriever's models in, lists of candidates with what it found of each out.

A list is held as rows of items and a few numbers for each: in every block the cosine and the
support, in the sequence encoder's too; and the fused score of `games_recall`, which has more lists
in it than blocks. Candidates are made of them when they are asked for, so that millions fit into
memory.

Shape legend: Q queries, N items, K items of a list, E items of all lists, F numbers of an item.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, overload

import numpy as np
from _games import Games
from _games_signals import decayed
from games_recall import BLOCK, HALF_LIFE, WEIGHTS, Models, Scorer, fused
from numpy.typing import NDArray

from embedders.items import Interaction
from ranker.examples import Example
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.tensor_file import read, write

BLOCKS = ("graph", "neighbors", "sequence", "text")
CO_OCCURRENCE = ("near the near", "next")
"""Logarithms of the lists that stand for cosine and support in the block of neighbors."""
WIDTH = 2 * len(BLOCKS) + 1
DEPTHS: Mapping[str, int] = {
    "fused": 50,
    "sequence": 40,
    "graph": 30,
    "text": 20,
    "near the near": 20,
}
"""How much of each list stands in a list to train on, so that it has what any route brings."""
POPULAR, RANDOM = 8, 8  # items drawn by popularity, and evenly


@dataclass(frozen=True, kw_only=True)
class Lists(Sequence[Example]):
    """Moments with their candidates, an example each."""

    item_ids: tuple[str, ...]
    histories: Sequence[NDArray[np.int64]]
    targets_Q: NDArray[np.int64]
    rows_E: NDArray[np.int64]
    found_EF: NDArray[np.float32]
    """Cosines by `BLOCKS`, supports by `BLOCKS`, the score."""
    ends_Q: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends_Q)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "list[Example]": ...
    def __getitem__(self, place: int | slice) -> "Example | list[Example]":
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return Example(
            query=query_of(self.item_ids, self.histories[place]),
            candidates=candidates_of(self.item_ids, *self.held(place)),
            chosen=frozenset([self.item_ids[self.targets_Q[place]]]),
            weights=WEIGHTS,
        )

    def held(self, place: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows of one list's items, rising, and what was found of them, [K] and [K, F]."""
        part = self.part(place)
        return self.rows_E[part], self.found_EF[part]

    def part(self, place: int) -> slice:
        """Where the items of one list stand among all."""
        return slice(int(self.ends_Q[place - 1]) if place else 0, int(self.ends_Q[place]))

    @classmethod
    def load(cls, games: Games, file: Path) -> "Lists":
        """What `training_lists` kept."""
        _, arrays = read(file, names=["users", "rows", "found", "ends"])
        histories, users = games.histories("valid"), arrays["users"]
        return cls(
            item_ids=games.item_ids,
            histories=[histories[user] for user in users.tolist()],
            targets_Q=games.targets("valid")[users],
            rows_E=arrays["rows"],
            found_EF=arrays["found"],
            ends_Q=arrays["ends"],
        )


def joined(
    item_ids: tuple[str, ...],
    histories: Sequence[NDArray[np.int64]],
    targets_Q: NDArray[np.int64],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]],
) -> Lists:
    """Lists of rows and findings, one for each history."""
    return Lists(
        item_ids=item_ids,
        histories=histories,
        targets_Q=targets_Q,
        rows_E=np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _ in parts)]),
        found_EF=np.concatenate([np.zeros((0, WIDTH), np.float32), *(one for _, one in parts)]),
        ends_Q=np.cumsum([len(rows) for rows, _ in parts], dtype=np.int64),
    )


def query_of(item_ids: Sequence[str], history: NDArray[np.int64]) -> Query:
    """Whoever had these items, oldest first."""
    return Query(
        history=tuple(Interaction(item_id=item_ids[row], behavior="review") for row in history)
    )


def candidates_of(
    item_ids: Sequence[str], rows_K: NDArray[np.int64], found_KF: NDArray[np.float32]
) -> tuple[Candidate, ...]:
    """Best first by the retriever's score; ties by item id."""
    order = np.lexsort((rows_K, -found_KF[:, -1]))
    pairs = zip(rows_K[order].tolist(), found_KF[order].tolist(), strict=True)
    return tuple(
        Candidate(
            item_id=item_ids[row],
            score=found[-1],
            rank=rank,
            evidence=dict(zip(BLOCKS, found[: len(BLOCKS)], strict=True)),
            support=dict(zip(BLOCKS, found[len(BLOCKS) : -1], strict=True)),
        )
        for rank, (row, found) in enumerate(pairs, start=1)
    )


class Finder:
    """One seed's retriever: what it finds of any items for any histories."""

    def __init__(self, games: Games, items: ItemVectors, models: Models) -> None:
        self._scorer = Scorer(games, items, models)
        self._vectors = {
            "graph": models.graph_ND,
            "sequence": models.sequence.items(items).vectors_ND,
            "text": items.block("text"),
        }
        self.item_ids = games.item_ids

    def blocks(self, histories: Sequence[NDArray[np.int64]]) -> Iterator["Found"]:
        """What is found for some histories after the other, in order."""
        for start in range(0, len(histories), BLOCK):
            yield self._found(histories[start : start + BLOCK])

    def _found(self, histories: Sequence[NDArray[np.int64]]) -> "Found":
        signals = self._scorer.signals(histories)
        weights_QN = decayed(histories, num_items=len(self.item_ids), half_life=HALF_LIFE)
        weights_QN = weights_QN.multiply(1 / weights_QN.sum(axis=1)).tocsr()
        return Found(
            histories=histories,
            signals={**signals, "fused": fused(signals, WEIGHTS)},
            vectors=self._vectors,
            means={name: weights_QN @ vectors_ND for name, vectors_ND in self._vectors.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one block of histories is answered with."""

    histories: Sequence[NDArray[np.int64]]
    signals: Mapping[str, NDArray[np.float32]]
    """Of every item, [Q, N] each; `fused` is their weighted sum."""
    vectors: Mapping[str, NDArray[np.float32]]
    """Of every item, unit rows by block, [N, D]."""
    means: Mapping[str, NDArray[np.float32]]
    """Of each history's items, the newest heaviest, [Q, D]; not normalized."""

    def of(self, query: int, rows_K: NDArray[np.int64]) -> NDArray[np.float32]:
        """What is found of some items for one history, [K, F]."""
        near, following = (self.signals[name][query, rows_K] for name in CO_OCCURRENCE)
        cosines = {name: self.signals[name][query, rows_K] for name in self.vectors}
        supports = {name: of[rows_K] @ self.means[name][query] for name, of in self.vectors.items()}
        cosines["neighbors"], supports["neighbors"] = near, following
        told = [one[name] for one in (cosines, supports) for name in BLOCKS]
        return np.stack([*told, self.signals["fused"][query, rows_K]], axis=1)

    def best(self, name: str, depth: int) -> list[NDArray[np.int64]]:
        """The first items of one list for each history, whose own items are left out."""
        scores_QN = self.signals[name].copy()
        for query, history in enumerate(self.histories):
            scores_QN[query, history] = -np.inf
        depth = min(depth, scores_QN.shape[1])
        first_QK = np.argpartition(-scores_QN, depth - 1, axis=1)[:, :depth]
        best = []
        for scores_N, rows_K in zip(scores_QN, first_QK, strict=True):
            rows_K = rows_K[scores_N[rows_K] > -np.inf]
            best.append(rows_K[np.lexsort((rows_K, -scores_N[rows_K]))])
        return best


def training_lists(
    games: Games, finder: Finder, users: Sequence[int], *, seed: int, file: Path
) -> None:
    """Write lists for the targets of `valid` by models trained on `train`, to be loaded; none
    where no route found the target."""
    targets_U = games.targets("valid")
    parts = _drawn(games, finder, users, seed=seed)
    is_held = [targets_U[user] in rows_K for user, (rows_K, _) in zip(users, parts, strict=True)]
    kept = list(compress(users, is_held))
    lists = joined(games.item_ids, [], targets_U[kept], list(compress(parts, is_held)))
    arrays: dict[str, NDArray[Any]] = {
        "users": np.array(kept, dtype=np.int64),
        "rows": lists.rows_E,
        "found": lists.found_EF,
        "ends": lists.ends_Q,
    }
    write(file, item_ids=[], arrays=arrays)


def _drawn(
    games: Games, finder: Finder, users: Sequence[int], *, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """For each user the items of all routes, and some that no route brought; no list depends on
    what was chosen."""
    random = np.random.default_rng(seed)
    histories = games.histories("valid")
    counts_N = np.bincount(np.concatenate(histories), minlength=len(games.item_ids))
    popular_N = np.flatnonzero(counts_N)
    chances_N = counts_N[popular_N] / counts_N.sum()
    parts = []
    for found in finder.blocks([histories[user] for user in users]):
        routes = {name: found.best(name, depth) for name, depth in DEPTHS.items()}
        for query, history in enumerate(found.histories):
            drawn = random.choice(popular_N, size=POPULAR, p=chances_N)
            others = random.integers(len(games.item_ids), size=RANDOM)
            rows_K = np.unique(
                np.concatenate([*(one[query] for one in routes.values()), drawn, others])
            )
            rows_K = rows_K[~np.isin(rows_K, history)]
            parts.append((rows_K, found.of(query, rows_K)))
    return parts
