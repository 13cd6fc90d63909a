"""Item ids in, the cost of reading their vectors through the reader against Feast's own way out.

Feast's own way is what its documentation shows: `get_online_features(...).to_dict()` for the
features of four views and 500 items. The reader is asked for the same: *cold* with empty caches,
so that it reads the online store, and *warm* with everything held. Both sides read one SQLite
online store in turns within one process that has answered before, under the same garbage
collector, and the vectors are compared bit by bit.

The limits: a warm read cannot beat copying its answer's bytes from one place to another, a cold
one cannot beat SQLite finding and handing out the stored bytes.
"""

import gc
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _figures import cpu_seconds, figure, parser, publish
from numpy.typing import NDArray

from embedders.items import EPOCH, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from feature_repo.tables import vector_view

DIMS = {Modality.TEXT: 384, Modality.IMAGE: 256, Modality.AUDIO: 128, Modality.GRAPH: 64}
WARM_CALLS = 50  # one is too short for the clock

Answer = dict[str, NDArray[np.float32]]


def fill(root: Path, num_items: int) -> tuple[Store, list[Space]]:
    """A store with random vectors of every item in every space, online."""
    store = Store(root)
    spaces = [
        Space(modality=modality, encoder="random", revision="1", dim=dim)
        for modality, dim in DIMS.items()
    ]
    ids = [f"item-{n:07d}" for n in range(num_items)]
    for seed, space in enumerate(spaces):
        vectors_ND = normalize(np.random.default_rng(seed).standard_normal((num_items, space.dim)))
        store.write(
            Embeddings(space=space, item_ids=ids, vectors_ND=vectors_ND),
            content_hashes=ids,
            event_timestamps=[EPOCH] * num_items,
        )
    store.apply()
    store.materialize(EPOCH)
    return store, spaces


class Sides:
    """The ways to read the same vectors of the same store."""

    def __init__(self, store: Store, spaces: list[Space]) -> None:
        self.spaces = spaces
        self.reader = OnlineReader(store)
        self._leaf = store.feature_store
        self._feast = store.feature_store._feast
        self._names = [vector_view(space).name for space in spaces]

    def to_dict(self, ids: list[str]) -> dict[str, list]:
        """Feast's documented way."""
        return self._feast.get_online_features(
            features=[f"{name}:vector" for name in self._names],
            entity_rows=[{"item_id": one} for one in ids],
            full_feature_names=True,
        ).to_dict()

    def read(self, ids: list[str]) -> dict[str, tuple]:
        """Ours."""
        return self.reader.vectors_of(self.spaces, ids)

    def warm(self, ids: list[str]) -> None:
        """Ours, often enough to be timed."""
        for _ in range(WARM_CALLS):
            self.read(ids)

    def select(self, ids: list[str]) -> None:
        """SQLite's part of a cold read: the stored bytes, as they are."""
        online = self._leaf._online_vectors._sqlite
        for name in self._names:
            online.read(self._leaf._view(name), ids)

    def check(self, ids: list[str]) -> None:
        """Both sides answer the same, bit by bit."""
        theirs, ours = self.to_dict(ids), self.read(ids)
        for space, name in zip(self.spaces, self._names, strict=True):
            vectors_ND, is_present_N = ours[space.space_id]
            assert is_present_N.all()
            np.testing.assert_array_equal(vectors_ND, np.float32(theirs[f"{name}__vector"]))


def copy(answer: list[NDArray[np.float32]]) -> None:
    """The bytes of an answer, from one place to another, as often as a warm read is timed."""
    for _ in range(WARM_CALLS):
        for vectors_ND in answer:
            vectors_ND.copy()


def timed(work: Callable, *given: object) -> float:
    """CPU seconds; what earlier work left to be collected is not counted."""
    gc.collect()
    return cpu_seconds(work, *given)[0]


def measure(sides: Sides, asked: Namespace) -> dict[str, list[float]]:
    """Each round's value of each figure."""
    random = np.random.default_rng(asked.rounds)
    values: dict[str, list[float]] = {}
    for _ in range(asked.rounds + 1):  # the first one warms both sides up and is not counted
        numbers = random.choice(asked.items, size=asked.candidates, replace=False)
        ids = [f"item-{n:07d}" for n in numbers]
        sides.reader.clear()
        cold_s = timed(sides.read, ids)
        sides.check(ids)
        warm_s = timed(sides.warm, ids) / WARM_CALLS
        answer = [vectors_ND for vectors_ND, _ in sides.read(ids).values()]
        copy_s = timed(copy, answer) / WARM_CALLS
        to_dict_s = timed(sides.to_dict, ids)
        select_s = timed(sides.select, ids)
        for name, value in {
            "cold_vs_to_dict": to_dict_s / cold_s,
            "warm_vs_to_dict": to_dict_s / warm_s,
            "cold_limit_share": select_s / cold_s,
            "warm_limit_share": copy_s / warm_s,
            "cold_ms": 1000 * cold_s,
            "warm_ms": 1000 * warm_s,
        }.items():
            values.setdefault(name, []).append(value)
    return {name: rounds[1:] for name, rounds in values.items()}


MEANINGS = {
    "cold_vs_to_dict": "CPU time of Feast's to_dict / of the reader with empty caches",
    "warm_vs_to_dict": "CPU time of Feast's to_dict / of the reader that holds the rows",
    "cold_limit_share": "of a cold read, what SQLite needs to hand out the stored bytes",
    "warm_limit_share": "of a warm read, what copying the answer's bytes takes",
    "cold_ms": "CPU milliseconds of one cold read",
    "warm_ms": "CPU milliseconds of one warm read",
}


def main() -> None:
    """Measure, print, write."""
    options = parser("The reader against get_online_features().to_dict() on one SQLite store.")
    options.add_argument("--items", type=int, default=10_000, help="in the store")
    options.add_argument("--candidates", type=int, default=500, help="read at once")
    asked = options.parse_args()
    warnings.simplefilter("ignore")  # Feast tells of what it will one day no longer take
    with tempfile.TemporaryDirectory() as folder:
        store, spaces = fill(Path(folder), asked.items)
        gc.freeze()  # libraries and definitions, which neither side makes
        values = measure(Sides(store, spaces), asked)
    publish(
        f"Reading {asked.candidates} items' vectors of {', '.join(map(str, DIMS.values()))} "
        f"dimensions, {asked.items:,} items in SQLite, {asked.rounds} rounds",
        {name: figure(rounds) for name, rounds in values.items()},
        MEANINGS,
        file=asked.json,
        packages=("feast", "numpy"),
    )


if __name__ == "__main__":
    main()
