"""A tiny ranker and its world: 41 items in three spaces, an LLM of two layers, moments to rank.

Every fourth item is gold: its sound says so, and whoever is asked chooses it. What users had
before is drawn at random, so that retrieval cannot know. `item-01` has no sound, `item-02` no
edges, `item-03` no text, `item-40` nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from ranker import embedded_llm, tokens
from ranker.config import (
    EmbeddedLlmConfig,
    FusionConfig,
    LlmConfig,
    RankerConfig,
    TrainingConfig,
)
from ranker.examples import Example
from ranker.llm_reranker import LlmReranker
from ranker.model import RankerModel
from ranker.prompts import FRAME
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.retriever import Retriever

AUDIO = Space(modality=Modality.AUDIO, encoder="tones", revision="1", dim=4)
GRAPH = Space(modality=Modality.GRAPH, encoder="edges", revision="1", dim=5)
TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=6)
LACKS = {Modality.AUDIO: "item-01", Modality.GRAPH: "item-02", Modality.TEXT: "item-03"}
BARE = "item-40"
IDS = [f"item-{n:02}" for n in range(40)]
GOLD = frozenset(IDS[::4])
TITLES = {item_id: f"a red wine of {item_id}" for item_id in [*IDS, BARE]}
TEXTS = [f"{color} {thing}" for color in ("red", "old", "blue", "young") for thing in
         "wine bread cheese song tower night piano novel eyes yesterday".split()]  # fmt: skip  # noqa: SIM905
BEHAVIORS = ("view", "rate")
NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)

CONFIG = RankerConfig(
    fusion=FusionConfig(width=8, heads=2, num_tokens=2, modality_dropout=0.3),
    llm=LlmConfig(
        lora_rank=4,
        embedded=EmbeddedLlmConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            vocab_size=300,
            warm_up_steps=4,
            batch_size=4,
            block_tokens=16,
        ),
    ),
    training=TrainingConfig(single_modality_steps=3, fusion_steps=3, batch_size=4, num_negatives=3),
)


def make_llm(folder: Path, *, phrases: Sequence[str] = FRAME) -> Path:
    return embedded_llm.make(
        TEXTS,
        behaviors=BEHAVIORS,
        folder=folder,
        config=CONFIG.llm.embedded,
        seed=1,
        phrases=phrases,
    )


def with_steps(single: int, fusion: int, **changes: object) -> RankerConfig:
    training = replace(
        CONFIG.training,
        single_modality_steps=single,
        fusion_steps=fusion,
        **changes,  # type: ignore[arg-type]
    )
    return replace(CONFIG, training=training)


def items() -> ItemVectors:
    """All 41, by id."""
    random = np.random.default_rng(5)
    given = []
    for space in (AUDIO, GRAPH, TEXT):
        ids = [item_id for item_id in IDS if LACKS[Modality(space.modality)] != item_id]
        vectors_ND = random.normal(size=(len(ids), space.dim))
        if space is AUDIO:
            vectors_ND[:, 0] = [3.0 if item_id in GOLD else -1.0 for item_id in ids]
        given.append(Embeddings(space=space, item_ids=ids, vectors_ND=normalize(vectors_ND)))
    return concatenate(given, item_ids=[*IDS, BARE])


def retriever(vectors: ItemVectors) -> Retriever:
    rows = np.flatnonzero(vectors.is_present_NM.any(axis=1))
    index = ExactIndex(dim=vectors.dim)
    index.add([vectors.item_ids[row] for row in rows], vectors.vectors_ND[rows])
    pooling = PoolingConfig(weights={Modality.AUDIO: 0.5})
    return Retriever(index, vectors, PooledHistory(vectors, config=pooling), popularity=[])


def reranker(adapter: Path, model: RankerModel, **parts: Any) -> LlmReranker:
    """The items joined with a model; `parts` take the place of what is given here."""
    vectors = items()
    present = {
        item_id: tuple(one for one, there in zip(vectors.modalities, row, strict=True) if there)
        for item_id, row in zip(vectors.item_ids, vectors.is_present_NM, strict=True)
    }
    given: dict[str, Any] = {
        "item_ids": vectors.item_ids,
        "tokens_ND": tokens.fuse(adapter, vectors).vectors_ND,
        "present": present,
        "titles": TITLES,
        "generation_id": "g-000007",
    }
    return LlmReranker(model, **{**given, **parts})


def history(*item_ids: str, behavior: str = "view") -> tuple[Interaction, ...]:
    """One event a minute, every other one with stars."""
    return tuple(
        Interaction(
            item_id=item_id,
            behavior=behavior if place % 2 else "rate",
            weight=None if place % 2 else 4.5,
            timestamp=NOON + timedelta(minutes=place),
        )
        for place, item_id in enumerate(item_ids)
    )


def examples(count: int, *, seed: int = 0, limit: int = 12) -> list[Example]:
    """Users with random pasts, who choose what is gold."""
    random = np.random.default_rng(seed)
    vectors = items()
    searched = retriever(vectors)
    made: list[Example] = []
    while len(made) < count:
        past = history(*random.choice(IDS, size=int(random.integers(3, 8)), replace=False))
        query = Query(user_id=f"user-{len(made)}", history=past, as_of=NOON + timedelta(days=1))
        candidates = searched.retrieve(query, limit=limit)
        chosen = GOLD & {candidate.item_id for candidate in candidates}
        if chosen:
            made.append(
                Example(
                    query=query,
                    candidates=tuple(candidates),
                    chosen=chosen,
                    weights=searched.weights,
                )
            )
    return made


def precision(order: Sequence[str], chosen: frozenset[str]) -> float:
    """The share of chosen ones among the first few, as many as were chosen."""
    return len(chosen & set(order[: len(chosen)])) / len(chosen)
