"""Users who go through a catalog of 40 items at random, and the examples they make; no torch."""

import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from ranker.config import TrainingConfig
from ranker.examples import STRETCH, Example, Target, collect
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.retriever import Retriever
from tests.ranker.events_world import DAY, START, Event, histories, table

IDS = [f"item-{n:02}" for n in range(40)]
BLOCK = 4
NUM_MOMENTS = 30
NUM_BLOCKS = 8
assert NUM_BLOCKS <= STRETCH  # so that a kill falls within one reading of histories


def events() -> list[Event]:
    random = np.random.default_rng(2)
    return [
        (f"user-{n}", item, "view", None, day)
        for n in range(6)
        for day, item in enumerate(random.permutation(IDS)[:30].tolist())
    ]


def vectors() -> ItemVectors:
    random = np.random.default_rng(3)
    given = [
        Embeddings(
            space=Space(modality=modality, encoder="e", revision="1", dim=4),
            item_ids=IDS,
            vectors_ND=normalize(random.normal(size=(len(IDS), 4)).astype(np.float32)),
        )
        for modality in (Modality.AUDIO, Modality.TEXT)
    ]
    return concatenate(given, item_ids=IDS)


class Mortal(Retriever):
    """A retriever that takes its process with it after so many calls."""

    killed_after: int | None = None

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        if self.killed_after == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.killed_after is not None:
            self.killed_after -= 1
        return super().retrieve_many(queries, limit=limit)


def collected(
    folder: Path | None,
    *,
    asked: list[str] | None = None,
    killed_after: int | None = None,
    num_candidates: int = 15,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sequence[Example]:
    """All examples; whose histories were read is added to `asked`."""
    items, told = vectors(), events()
    index = ExactIndex(dim=items.dim)
    index.add(items.item_ids, items.vectors_ND)
    retriever = Mortal(index, items, PooledHistory(items, config=PoolingConfig()), popularity=[])
    retriever.killed_after = killed_after

    def past(pairs: Sequence[tuple[str, datetime]]) -> list[tuple[Interaction, ...]]:
        if asked is not None:
            asked.extend(user_id for user_id, _ in pairs)
        return histories(told, pairs)

    return collect(
        table(told),
        target=Target(),
        start=START,
        cut=START + 100 * DAY,
        histories=past,
        retriever=retriever,
        config=TrainingConfig(num_candidates=num_candidates),
        created_at={IDS[-1]: START + 20 * DAY},
        folder=folder,
        block_size=BLOCK,
        on_progress=on_progress,
    )
