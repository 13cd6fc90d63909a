"""Moments in, training examples out: the history of then, what retrieval found, what was chosen.

The history is read as of the moment, from the feature store, and candidates are retrieved with it,
so that training sees what serving will see. A moment counts only if retrieval found some of what
was chosen: a positive from elsewhere would teach that whatever retrieval brings is wrong.

Candidates that are not chosen are negatives, but for masked ones: those that the user chose later
than the moment's window, and those so like a chosen one that they may be the same thing twice.

Given a store, examples are gathered block by block and kept in it, so that memory is bounded, and
a collection that was killed goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from embedders.items import EPOCH, Interaction
from ranker.config import TrainingConfig
from ranker.example_store import ExampleStore, Outline, Picked, StoredExamples
from ranker.moments import (
    STRIDE,
    WINDOW,
    Births,
    Example,
    Moment,
    Target,
    moments,
    not_yet,
)
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.retriever import Retriever

__all__ = [
    "STRIDE",
    "WINDOW",
    "Example",
    "Moment",
    "Target",
    "collect",
    "duplicates",
    "moments",
    "not_yet",
    "split",
]

BLOCK = 512  # moments whose candidates are retrieved in one call, and kept in one file
STRETCH = 8  # blocks whose histories are read in one call
HIDDEN = 2_000_000  # ids at most, over all queries of one call, that retrieval is told to hide
TINY = 1e-6  # the rounding of a cosine

Asked = tuple[str, datetime]
Histories = Callable[[Sequence[Asked]], list[tuple[Interaction, ...]]]
Preferences = Callable[[Sequence[Asked]], Sequence[str | None]]
"""What was written of users' preferences as of moments; None where nothing was yet."""


def collect(
    interactions: pa.Table,
    *,
    target: Target,
    start: datetime,
    cut: datetime,
    histories: Histories,
    retriever: Retriever,
    config: TrainingConfig,
    preferences: Preferences | None = None,
    created_at: Mapping[str, datetime] | None = None,
    by_behavior: bool = False,
    folder: Path | None = None,
    block_size: int = BLOCK,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sequence[Example]:
    """The training examples of all moments whose choices retrieval found, at least in part.

    Args:
        interactions, target, start, cut: As `moments` takes them.
        histories: The events of users strictly before a moment.
        retriever: Knows nothing later than `start`.
        config: How many moments, how many candidates, and which of them are duplicates.
        preferences: What was written of users' preferences strictly before a moment; None where
            no prompt reads any.
        created_at: Hides items from moments before they were there: nobody could have chosen
            them, and a model that met them would learn that new items are never chosen.
        by_behavior: Ask for each of the target's behaviors apart, and for any.
        folder: Where examples are kept, and found again; named by all that they depend on, of
            which moments, creation times, settings and whether preferences are told are
            compared. None keeps them in memory.
        block_size: Moments whose candidates are retrieved at once.
        on_progress: Called with the moments done and all of them.

    Returns:
        The examples, by user, time and behavior; with a folder, read from it when asked for.
    """
    asked = moments(
        interactions,
        target=target,
        start=start,
        cut=cut,
        limit=config.max_examples,
        seed=config.seed,
        by_behavior=by_behavior,
    )
    blocks = [asked[first : first + block_size] for first in range(0, len(asked), block_size)]
    past = _Past(histories, preferences)
    gathering = _Gathering(past, retriever, config, Births(created_at or {}))
    if folder is None:
        found = gathering.run(blocks, range(len(blocks)), on_progress)
        return [example for _, examples in found for example in examples]
    store = ExampleStore(folder)
    key = _key(asked, created_at or {}, retriever, config, is_told=preferences is not None)
    missing = store.begin(key, num_blocks=len(blocks))
    for place, examples in gathering.run(blocks, missing, on_progress):
        store.write(place, examples)
    return store.read()


def duplicates(
    items: ItemVectors, chosen: Collection[str], item_ids: Sequence[str], *, cosine: float
) -> frozenset[str]:
    """Those of `item_ids` that are at least so like a chosen item in every modality of both.

    An item without any modality in common with a chosen one is no duplicate of it. The cosines are
    retrieval's own, between centered vectors. Items without a row are passed over.
    """
    known = [one for one in item_ids if one in items.row_of and one not in chosen]
    rows_C = np.array([items.row_of[one] for one in known], dtype=np.int64)
    rows_P = np.array(
        [items.row_of[one] for one in sorted(chosen) if one in items.row_of], dtype=np.int64
    )
    is_alike_CP = np.ones((len(rows_C), len(rows_P)), dtype=np.bool_)
    is_shared_CP = np.zeros_like(is_alike_CP)
    for modality in items.modalities:
        block, is_present = items.block(modality), items.is_present(modality)
        both_CP = np.logical_and.outer(is_present[rows_C], is_present[rows_P])
        cosines_CP = block[rows_C] @ block[rows_P].T
        is_alike_CP &= ~both_CP | (cosines_CP >= cosine - TINY)
        is_shared_CP |= both_CP
    places = np.flatnonzero((is_alike_CP & is_shared_CP).any(axis=1))
    return frozenset(known[place] for place in places)


def split(examples: Sequence[Example], share: float) -> tuple[Sequence[Example], Sequence[Example]]:
    """Examples to train on, and the newest ones to hold out; both as they came.

    An older example of a user that shares a choice with a held-out one of theirs is in neither: its
    window reaches into what is held out, and training on it would be training on the answer.

    Args:
        examples: Only read one by one, and not kept.
        share: Of the examples, rounded down. Of equal times the later ones are held out;
            examples without a time count as older than all others.

    Raises:
        ValueError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share that is held out lies in [0, 1), got {share}")
    num_held = int(len(examples) * share)
    if not num_held:
        return examples, Picked(examples, ())
    outlines = _outlines(examples)
    order = sorted(range(len(outlines)), key=lambda n: outlines[n].as_of or EPOCH)
    held = set(order[len(order) - num_held :])
    answers = {(outlines[n].user_id, one) for n in held for one in outlines[n].chosen}
    kept = [
        n
        for n, one in enumerate(outlines)
        if n not in held
        and not (one.user_id and any((one.user_id, item) in answers for item in one.chosen))
    ]
    return Picked(examples, kept), Picked(examples, sorted(held))


@dataclass(frozen=True, slots=True)
class _Past:
    """What was known of users at moments."""

    histories: Histories
    preferences: Preferences | None

    def of(self, pairs: Sequence[Asked]) -> dict[Asked, Query]:
        """Each moment's user with history, and with the preference where any is read: empty for
        one of whom nothing was written."""
        told: Sequence[str | None] = [None] * len(pairs)
        if self.preferences is not None:
            told = [text or "" for text in self.preferences(pairs)]
        rows = zip(pairs, self.histories(pairs), told, strict=True)
        return {
            (user_id, as_of): Query(
                user_id=user_id, history=history, as_of=as_of, preference=preference
            )
            for (user_id, as_of), history, preference in rows
        }


@dataclass(frozen=True, slots=True)
class _Gathering:
    """Turns blocks of moments into their examples."""

    known: _Past
    retriever: Retriever
    config: TrainingConfig
    births: Births

    def run(
        self,
        blocks: Sequence[Sequence[Moment]],
        places: Sequence[int],
        on_progress: Callable[[int, int], None] | None,
    ) -> Iterator[tuple[int, list[Example]]]:
        """The examples of each of these blocks, with its place."""
        total = sum(map(len, blocks))
        done = total - sum(len(blocks[place]) for place in places)
        for first in range(0, len(places), STRETCH):
            stretch = places[first : first + STRETCH]
            pairs = list(dict.fromkeys(_pair(one) for place in stretch for one in blocks[place]))
            past = self.known.of(pairs)
            for place in stretch:
                yield place, self._examples(blocks[place], past)
                done += len(blocks[place])
                if on_progress is not None:
                    on_progress(done, total)

    def _examples(self, block: Sequence[Moment], past: Mapping[Asked, Query]) -> list[Example]:
        # Retrieval knows of no behavior: it is asked once for all of a moment's.
        pairs = list(dict.fromkeys(map(_pair, block)))
        found = dict(zip(pairs, self._candidates(pairs, past), strict=True))
        examples = (self._example(one, past[_pair(one)], found[_pair(one)]) for one in block)
        return [one for one in examples if one is not None]

    def _candidates(
        self, pairs: Sequence[Asked], past: Mapping[Asked, Query]
    ) -> Iterator[list[Candidate]]:
        most = max((self.births.num_after(as_of) for _, as_of in pairs), default=0)
        size = max(1, min(len(pairs), HIDDEN // max(1, most)))
        for first in range(0, len(pairs), size):
            queries = [
                replace(past[pair], exclude=self.births.after(pair[1]))
                for pair in pairs[first : first + size]
            ]
            yield from self.retriever.retrieve_many(queries, limit=self.config.num_candidates)

    def _example(
        self, moment: Moment, known: Query, candidates: Sequence[Candidate]
    ) -> Example | None:
        """None where the list cannot tell what is chosen from what is not."""
        item_ids = [one.item_id for one in candidates]
        num_found = sum(one in moment.chosen for one in item_ids)
        if not num_found:
            return None
        masked = moment.masked(item_ids)
        if self.config.duplicate_cosine is not None:
            masked |= duplicates(
                self.retriever.items, moment.chosen, item_ids, cosine=self.config.duplicate_cosine
            )
        if num_found + len(masked) == len(candidates):
            return None
        return Example(
            # Whom retrieval hid is not asked again, and many sets are large.
            query=replace(known, behavior=moment.behavior),
            candidates=tuple(candidates),
            chosen=moment.chosen,
            weights=self.retriever.weights,
            masked=masked,
        )


def _pair(moment: Moment) -> Asked:
    return moment.user_id, moment.as_of


def _outlines(examples: Sequence[Example]) -> list[Outline]:
    if isinstance(examples, StoredExamples):
        return examples.outlines()
    return [Outline(one.query.user_id, one.query.as_of, one.chosen) for one in examples]


def _key(
    asked: Sequence[Moment],
    created_at: Mapping[str, datetime],
    retriever: Retriever,
    config: TrainingConfig,
    *,
    is_told: bool,
) -> str:
    """Of what is at hand of all that examples depend on; their folder's name tells the rest."""
    spaces = [space.space_id for space in retriever.items.spaces]
    weights = sorted(retriever.weights.items())
    facts = [config.num_candidates, config.duplicate_cosine, weights, spaces, is_told]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for one in asked:
        row = [one.user_id, one.as_of.isoformat(), one.behavior, sorted(one.chosen)]
        digest.update(json.dumps(row).encode())
    for item_id, moment in sorted(created_at.items()):
        digest.update(json.dumps([item_id, moment.isoformat()]).encode())
    return digest.hexdigest()
