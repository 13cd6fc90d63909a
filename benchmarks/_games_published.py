"""The 200 users of the published table in, its rows Pop and BM25 computed anew out.

LLMRank's table of Games: 20 candidates for each user, the first 19 of the stored random list
without the target, and the target, in an order drawn by a seed. Pop counts the interactions before
the test targets. BM25 asks with the titles of the whole history. Ties fall by item id. What the
paper did in these points it does not state, so that the rows come close and not nearer.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from _games import Games
from numpy.typing import NDArray

PUBLISHED = {"Pop": (28.35, 47.42, 52.96, 57.45), "BM25": (13.92, 28.81, 34.61, 44.35)}
"""NDCG@1, 5, 10 and 20 times 100, of LLMRank's table of Games."""
DEPTHS = (1, 5, 10, 20)
K1, B = 1.2, 0.75  # of BM25, as usual
WORD = re.compile(r"[a-z0-9]+")


def published(games: Games, *, seed: int) -> dict[str, NDArray[np.int64]]:
    """Where the target stands among 20 candidates, by popularity and by BM25 on titles."""
    lists = games.lists("random", folder="candidates_sample200")
    histories, targets_U = games.histories("test"), games.targets("test")
    counts_N = np.bincount(np.concatenate(histories), minlength=len(games.item_ids))
    scorer = Bm25(games.titles)
    random = np.random.default_rng(seed)
    places: dict[str, list[int]] = {"Pop": [], "BM25": []}
    for user, drawn in sorted(lists.items()):
        others = drawn[drawn != targets_U[user]][:19].tolist()
        asked = Counter(word for row in histories[user] for word in words_of(games.titles[row]))
        shuffled = random.permutation([*others, targets_U[user]]).tolist()
        scores = {
            "Pop": [float(counts_N[row]) for row in shuffled],
            "BM25": [scorer.score(asked, row) for row in shuffled],
        }
        for name, values in scores.items():
            order = np.lexsort((shuffled, -np.asarray(values)))  # rows are sorted by item id
            places[name].append(int(np.flatnonzero(order == shuffled.index(targets_U[user]))[0]))
    return {name: np.array(one) for name, one in places.items()}


def words_of(title: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return WORD.findall(title.lower())


class Bm25:
    """Titles as documents, a history's titles as the query (Robertson & Zaragoza, 2009)."""

    def __init__(self, titles: Sequence[str]) -> None:
        self._counts = [Counter(words_of(title)) for title in titles]
        self._lengths = [sum(one.values()) for one in self._counts]
        self._mean = sum(self._lengths) / max(1, len(self._lengths))
        held_by = Counter(word for one in self._counts for word in one)
        self._idf = {
            word: math.log(1 + (len(titles) - count + 0.5) / (count + 0.5))
            for word, count in held_by.items()
        }

    def score(self, query: Counter[str], row: int) -> float:
        """How well one title answers a query."""
        counts = self._counts[row]
        damping = K1 * (1 - B + B * self._lengths[row] / self._mean)
        return sum(
            times * self._idf[word] * counts[word] * (K1 + 1) / (counts[word] + damping)
            for word, times in query.items()
            if word in counts
        )
