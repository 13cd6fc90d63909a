"""A generation and the store in, all that is read of its items before it serves out.

Titles, summaries and fused tokens of every item are held in memory. Of a summary no more is kept
than prompts can write of it.

Shape legend: N items, D numbers of an item's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.texts import TextKind, TextSource
from feature_repo.base import StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker.generation import Generation, GenerationError
from ranker.model import RankerModel
from ranker.prompts import bounded

REPAIR = "run `sommelier index` and `sommelier publish`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is known of the items."""

    titles: dict[str, str]
    summaries: dict[str, str]
    """Empty where prompts hold none."""
    tokens_ND: NDArray[np.float32]
    """In the items' order."""


def hold(
    generation: Generation,
    model: RankerModel,
    item_ids: Sequence[str],
    *,
    store: Store,
    reader: OnlineReader | None,
) -> Held:
    """Read it from the online store, or without a reader from the offline one.

    Raises:
        GenerationError: the model's prompts read other texts than the generation names.
        StoreError: an item has no tokens, or a source that the generation reads has no texts.
    """
    if generation.texts != model.texts:
        raise GenerationError(
            f"generation {generation.generation_id} names other texts than its adapter was trained "
            f"with: run `sommelier publish`"
        )
    check_texts(generation.texts, store)
    source, limit = summary_source(generation.texts), model.config.prompt.summary_tokens
    return Held(
        titles=_titles(store, reader, item_ids),
        summaries=_summaries(store, reader, item_ids, source=source, limit=limit),
        tokens_ND=_tokens(store, reader, generation, item_ids),
    )


def summary_source(texts: Sequence[TextSource]) -> TextSource | None:
    """Who wrote of the items; None for nobody."""
    return next((one for one in texts if one.kind is TextKind.SUMMARY), None)


def preference_source(texts: Sequence[TextSource]) -> TextSource | None:
    """Who wrote of the users; None for nobody."""
    return next((one for one in texts if one.kind is TextKind.PREFERENCE), None)


def check_texts(texts: Sequence[TextSource], store: Store) -> None:
    """Refuse a store that holds nothing of a source that prompts read.

    Raises:
        StoreError: it does; the message names the source and those that there are.
    """
    known = store.text_sources() if texts else {}
    for source in texts:
        if source.source_id not in known:
            raise StoreError(
                f"its prompts read texts of {source.source_id}, of which the store holds none "
                f"(it holds {', '.join(sorted(known)) or 'no texts at all'}): run "
                f"`sommelier summarize` with the writer and settings of then, or `sommelier "
                f"train`, `sommelier index` and `sommelier publish` with those of now"
            )


def _titles(store: Store, reader: OnlineReader | None, item_ids: Sequence[str]) -> dict[str, str]:
    if reader is None:
        return {item_id: profile.title for item_id, profile in store.profiles().items()}
    profiles = [one for one in reader.profiles(item_ids) if one is not None]
    return {profile.item_id: profile.title for profile in profiles}


def _summaries(
    store: Store,
    reader: OnlineReader | None,
    item_ids: Sequence[str],
    *,
    source: TextSource | None,
    limit: int,
) -> dict[str, str]:
    if source is None:
        return {}
    if reader is None:
        stored = store.stream_texts(source)
        return {item_id: bounded(written.text, limit) for item_id, written in stored}
    texts = zip(item_ids, reader.texts(source, item_ids), strict=True)
    return {item_id: bounded(text, limit) for item_id, text in texts if text is not None}


def _tokens(
    store: Store, reader: OnlineReader | None, generation: Generation, item_ids: Sequence[str]
) -> NDArray[np.float32]:
    """Every item's fused tokens, in order."""
    space = generation.fused_space
    if reader is not None:
        tokens_ND, is_present_N = reader.vectors(space, item_ids)
    else:
        stored = store.read(space)
        row_of = {item_id: row for row, item_id in enumerate(stored.item_ids)}
        rows = [row_of.get(item_id, -1) for item_id in item_ids]
        is_present_N = np.array([row >= 0 for row in rows], dtype=bool)
        tokens_ND = np.zeros((len(item_ids), space.dim), dtype=np.float32)
        tokens_ND[is_present_N] = stored.vectors_ND[[row for row in rows if row >= 0]]
    if not is_present_N.all():
        missing = [item_ids[n] for n in np.flatnonzero(~is_present_N)[:3]]
        raise StoreError(
            f"{int((~is_present_N).sum())} items have no fused tokens in the store, such as "
            f"{missing}: {REPAIR}"
        )
    return tokens_ND
