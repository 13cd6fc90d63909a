"""A catalog's folder in; who is asked when, what they then chose, and short lists of it out.

Both sets are split by user. `movielens` has times, but its users rate in one sitting, so that a cut
in time would leave few with a history: each user's own events are cut after shares of them. Only
films with a trailer's and a poster's vector take part, so that which vectors a film has tells
nothing of how known it is. `lastfm` has a given split without any order; a fifth of each user's
`train` is kept from the graph.

    movielens  |----- graph -----|----- train -----|- valid -|- test -|   a user's events in time
    lastfm     |-------- graph --------|-- train --|- valid -|- test -|   as given, in any order

The graph's vectors are trained on the first band alone, so they know no choice that the ranker
learns from, nor any that it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedders.catalog import Catalog, read
from embedders.columns import Columns
from embedders.items import Interaction
from evaluation.negatives import Negatives
from ranker.examples import STRIDE, WINDOW

LIKED = 4.0  # the fewest stars of a choice
SHARES = (0.5, 0.8, 0.9)  # of a user's events, where train, valid and test begin
FEWEST = 10  # events of a user who takes part
HIDDEN_SHARE = 0.2  # of the given `train`, unknown to the graph
RETELLINGS = 3  # training moments of a user whose events have no order
MOST_LISTS = 3  # of a user
NUM_NEGATIVES = 19  # beside each choice asked for: LLaRA's 20 candidates
VECTORS = ("audio_ivector100", "image_mobilenetv2")
COLUMNS = {
    "lastfm": Columns(description=("text",)),
    "movielens": Columns(description=("genres", "plot")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A user at a moment."""

    user_id: str
    history: tuple[Interaction, ...]
    """Oldest first; in any order where there is none."""
    chosen: tuple[str, ...]
    """What the user then chose, by id."""
    met: frozenset[str]
    """What is no negative: all that the user is known to have touched by the end of the band; of
    those who are judged, all that they ever touched."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """One set, split."""

    catalog: Catalog
    item_ids: tuple[str, ...]
    """What is ranked, sorted."""
    graph_events: pa.Table
    train: tuple[Asked, ...]
    valid: tuple[Asked, ...]
    test: tuple[Asked, ...]


def load(folder: Path) -> Moments:
    """The set of this folder, named as it is."""
    catalog = read(folder, columns=COLUMNS[folder.name])
    item_ids = {item.item_id for item in catalog.items()}
    if folder.name == "movielens":
        for name in VECTORS:
            table = pq.read_table(folder / "vectors" / f"{name}.parquet", columns=["item_id"])
            item_ids &= set(table["item_id"].to_pylist())
    events = catalog.interactions
    events = events.filter(pc.is_in(events["item_id"], pa.array(sorted(item_ids))))
    by_user: dict[str, list[int]] = {}
    rows = events.to_pylist()
    for place, row in enumerate(rows):
        by_user.setdefault(row["user_id"], []).append(place)
    divide: Callable[[str, list[dict[str, object]]], _Divided | None]
    divide = _in_time if folder.name == "movielens" else _as_given
    train, valid, test, known = [], [], [], []
    for user_id in sorted(by_user):
        divided = divide(user_id, [rows[place] | {"place": place} for place in by_user[user_id]])
        if divided is not None:
            train += divided.train
            valid += [one for one in [divided.valid] if one.chosen]
            test += [one for one in [divided.test] if one.chosen]
            known += divided.known
    return Moments(
        catalog=catalog,
        item_ids=tuple(sorted(item_ids)),
        graph_events=events.take(pa.array(sorted(known))),
        train=tuple(train),
        valid=tuple(valid),
        test=tuple(test),
    )


def short_lists(asked: Sequence[Asked], item_ids: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """For each user and up to three of their choices, the choice and 19 even draws of what they
    never met. Another choice of the user's never stands beside it."""
    negatives = Negatives(item_ids)
    lists = []
    for one in asked:
        rng = np.random.default_rng([0, *one.user_id.encode()])
        kept = sorted(rng.permutation(len(one.chosen))[:MOST_LISTS].tolist())
        drawn = [
            negatives.draw(f"{one.user_id}/{place}", touched=one.met, num=NUM_NEGATIVES)
            for place in kept
        ]
        lists.append([(one.chosen[n], *others) for n, others in zip(kept, drawn, strict=True)])
    return lists


@dataclass(frozen=True, kw_only=True)
class _Divided:
    """One user's part of all bands; `known` are the places of the events that the graph knows."""

    known: list[int]
    train: list[Asked]
    valid: Asked
    test: Asked


def _in_time(user_id: str, rows: list[dict[str, object]]) -> _Divided | None:
    """Shares of a user's events, in time; ties by item."""
    if len(rows) < FEWEST:
        return None
    rows = sorted(rows, key=lambda row: (row["timestamp"], row["item_id"]))
    events = [_event(row) for row in rows]
    ends = [*(round(share * len(events)) for share in SHARES), len(events)]

    def asked(first: int, end: int, met_until: int) -> Asked:
        return Asked(
            user_id=user_id,
            history=tuple(events[:first]),
            chosen=tuple(sorted(e.item_id for e in events[first:end] if (e.weight or 0) >= LIKED)),
            met=frozenset(e.item_id for e in events[:met_until]),
        )

    moments = [
        asked(first, min(first + WINDOW, ends[1]), ends[1])
        for first in range(ends[0], ends[1], STRIDE)
    ]
    return _Divided(
        known=[int(str(row["place"])) for row in rows[: ends[0]]],
        train=[one for one in moments if one.chosen],
        valid=asked(ends[1], ends[2], ends[3]),
        test=asked(ends[2], ends[3], ends[3]),
    )


def _as_given(user_id: str, rows: list[dict[str, object]]) -> _Divided | None:
    """The given bands in a drawn order. The history of a training moment is a draw of what the
    graph knows, so that no moment is told twice alike."""
    rng = np.random.default_rng([0, *user_id.encode()])
    rows = [rows[place] for place in rng.permutation(len(rows))]
    bands = {
        band: [row for row in rows if row["split"] == band] for band in ("train", "valid", "test")
    }
    num_known = len(bands["train"]) - round(HIDDEN_SHARE * len(bands["train"]))
    known, hidden = bands["train"][:num_known], bands["train"][num_known:]
    everything = frozenset(str(row["item_id"]) for row in rows)
    trained_on = frozenset(str(row["item_id"]) for row in bands["train"])

    def asked(
        past: list[dict[str, object]], then: list[dict[str, object]], met: frozenset[str]
    ) -> Asked:
        return Asked(
            user_id=user_id,
            history=tuple(_event(past[place]) for place in rng.permutation(len(past))),
            chosen=tuple(sorted(str(row["item_id"]) for row in then)),
            met=met,
        )

    retold = [
        [
            known[place]
            for place in rng.permutation(num_known)[: rng.integers(num_known // 2, num_known) + 1]
        ]
        for _ in range(RETELLINGS)
    ]
    return _Divided(
        known=[int(str(row["place"])) for row in known],
        train=[asked(past, hidden, trained_on) for past in retold if hidden],
        valid=asked(bands["train"], bands["valid"], everything),
        test=asked(bands["train"] + bands["valid"], bands["test"], everything),
    )


def _event(row: dict[str, object]) -> Interaction:
    weight = row["weight"]
    return Interaction(
        item_id=str(row["item_id"]),
        behavior=str(row["behavior"]),
        weight=None if weight is None else float(str(weight)),
    )
