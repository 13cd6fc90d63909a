"""The set `games` in, its histories, targets, candidate lists and title vectors out.

A user's last item is the target of `test`, the one before that of `valid`; what lies before a
target is the history it is retrieved from. There are no timestamps, so that the cut is the user's
own, as in the published evaluation of this set.

Shape legend: N items, Q users asked for, D dimensions.
"""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedders.items import Item
from embedders.text_sentence import MINILM, SentenceEmbedder
from embedders.vectors import Embeddings
from retrieval.tensor_file import read, write

ROUTES = ("random", "bm25", "bert", "pop", "bpr", "gru4rec", "sasrec")
"""The stored candidate lists, as the set's makers retrieved them."""
BEFORE = {"valid": ("train",), "test": ("train", "valid")}
"""What is known when a target is sought."""


@dataclass(frozen=True, kw_only=True)
class Games:
    """Users and items by id; items are spoken of by their row."""

    folder: Path
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    """Unescaped, in the order of `item_ids`."""
    user_ids: tuple[str, ...]
    table: pa.Table
    """The interactions, by user and position."""

    def histories(self, split: str) -> list[NDArray[np.int64]]:
        """What each user had before the target of a split, oldest first."""
        kept = pc.is_in(self.table["split"], pa.array(BEFORE[split]))
        table = self.table.filter(kept)
        rows_E = self._rows(table["item_id"])
        counts_U = np.bincount(self._users(table["user_id"]), minlength=len(self.user_ids))
        return np.split(rows_E, np.cumsum(counts_U)[:-1])

    def targets(self, split: str) -> NDArray[np.int64]:
        """Each user's target."""
        return self._rows(self.table.filter(pc.equal(self.table["split"], split))["item_id"])

    def known(self, split: str) -> pa.Table:
        """The interactions before the targets of a split."""
        return self.table.filter(pc.is_in(self.table["split"], pa.array(BEFORE[split])))

    def lists(self, route: str, *, folder: str = "candidates") -> dict[int, NDArray[np.int64]]:
        """A stored list of candidates for each of its users, in the file's order."""
        table = pq.read_table(self.folder / folder / f"{route}.parquet")
        users = self._users(table["user_id"]).tolist()
        rows = self._rows(pc.list_flatten(table["item_ids"]))
        ends = np.cumsum(pc.list_value_length(table["item_ids"]).to_numpy())[:-1]
        return dict(zip(users, np.split(rows, ends), strict=True))

    def _rows(self, ids: pa.Array) -> NDArray[np.int64]:
        return _places(ids, self.item_ids)

    def _users(self, ids: pa.Array) -> NDArray[np.int64]:
        return _places(ids, self.user_ids)


def load(folder: Path) -> Games:
    """The set, from its folder."""
    items = pq.read_table(folder / "items.parquet").sort_by("item_id")
    table = pq.read_table(folder / "interactions.parquet")
    table = table.sort_by([("user_id", "ascending"), ("position", "ascending")])
    titles = [html.unescape(one or "").strip() for one in items["title"].to_pylist()]
    return Games(
        folder=folder,
        item_ids=tuple(items["item_id"].to_pylist()),
        titles=tuple(titles),
        user_ids=tuple(sorted(set(table["user_id"].to_pylist()))),
        table=table,
    )


def text_vectors(games: Games, *, cache: Path) -> Embeddings:
    """The titles' vectors by all-MiniLM-L6-v2, computed once and kept in the folder `cache`."""
    encoder = SentenceEmbedder(model=MINILM, device="cpu")
    facts = repr((encoder.space.space_id, games.item_ids, games.titles))
    path = cache / f"titles-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.safetensors"
    if path.is_file():
        item_ids, arrays = read(path, names=["vectors"])
        return Embeddings(space=encoder.space, item_ids=item_ids, vectors_ND=arrays["vectors"])
    rows = [row for row, title in enumerate(games.titles) if title]
    item_ids = [games.item_ids[row] for row in rows]
    parts = []
    for start in range(0, len(rows), encoder.rows_per_batch):
        part = rows[start : start + encoder.rows_per_batch]
        texts = [
            encoder.load(Item(item_id=games.item_ids[row], title=games.titles[row])) for row in part
        ]
        parts.append(encoder.encode(texts))
        print(f"titles: {start + len(part)} of {len(rows)}", flush=True)
    vectors_ND = np.concatenate(parts)
    write(path, item_ids=item_ids, arrays={"vectors": vectors_ND})
    return Embeddings(space=encoder.space, item_ids=item_ids, vectors_ND=vectors_ND)


def ranks_in(scores_QN: NDArray[np.float32], targets_Q: NDArray[np.int64]) -> NDArray[np.int64]:
    """From 0, the place of each target among all items; equal scores fall by item id."""
    own_Q1 = scores_QN[np.arange(len(targets_Q)), targets_Q][:, None]
    is_before = np.arange(scores_QN.shape[1]) < targets_Q[:, None]
    ahead = (scores_QN > own_Q1) | ((scores_QN == own_Q1) & is_before)
    return np.asarray(ahead.sum(axis=1), dtype=np.int64)


def ranks_of(
    lists: Sequence[NDArray[np.int64]],
    targets_Q: NDArray[np.int64],
    *,
    hidden: Sequence[NDArray[np.int64]] | None = None,
) -> NDArray[np.int64]:
    """From 0, the place of each target in a list from which what is hidden was removed.

    A target that the list does not hold gets a place beyond any list.
    """
    places = []
    for row, (items, target) in enumerate(zip(lists, targets_Q.tolist(), strict=True)):
        if hidden is not None:
            items = items[~np.isin(items, hidden[row])]
        found = np.flatnonzero(items == target)
        places.append(int(found[0]) if len(found) else np.iinfo(np.int64).max)
    return np.array(places)


def ndcg_at(ranks_Q: NDArray[np.int64], depth: int) -> NDArray[np.float64]:
    """Of one target each: 1 / log2(place + 1), places from 1; 0 beyond the depth."""
    is_found_Q = ranks_Q < depth
    return np.where(is_found_Q, 1 / np.log2(np.where(is_found_Q, ranks_Q, 0) + 2), 0.0)


def recall_at(ranks_Q: NDArray[np.int64], depth: int) -> NDArray[np.float64]:
    """Whether the one target is among the first."""
    return (ranks_Q < depth).astype(np.float64)


def _places(ids: pa.Array, among: Sequence[str]) -> NDArray[np.int64]:
    found = pc.index_in(ids, pa.array(among, pa.string()))
    assert not found.null_count
    return np.asarray(found.to_numpy(), dtype=np.int64)
