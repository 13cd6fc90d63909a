"""A world and a variant in, a trained adapter out; an adapter and users in, scores of items out.

A variant is a switch or two of the product's own configuration; every variant of a set and seed
sees the same moments, the same negatives, the same LLM and as many steps. Nothing retrieves: the
candidates of a moment are its choices and even draws, as in the lists that are judged, and the LLM
is alone with the items (`has_evidence` is off), but for the variant `system`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _tmf_sets import Asked
from _tmf_worlds import World, without

from embedders.items import Modality
from evaluation.negatives import Negatives
from ranker import model as models
from ranker import tokens
from ranker.config import (
    FusionConfig,
    LlmConfig,
    PromptConfig,
    RankerConfig,
    TrainingConfig,
    Written,
)
from ranker.examples import Example
from ranker.llm_reranker import LlmReranker
from ranker.training import train
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.retriever import Retriever

HISTORY = 10  # events that the LLM reads, as in LLaRA
NUM_TOKENS = 4  # of an item, as many as it has modalities; chosen on `valid`
NUM_DRAWN = 60  # negatives that a training moment's are drawn from
SETTINGS = {
    "lastfm": TrainingConfig(
        num_negatives=9, single_modality_steps=300, fusion_steps=1200, validation_share=0
    ),
    "movielens": TrainingConfig(
        num_negatives=9,
        single_modality_steps=300,
        fusion_steps=1200,
        learning_rate=1e-3,
        validation_share=0,
    ),
}
"""Chosen on `valid`; the same for all variants of a set."""

Score = Callable[[Asked, Sequence[str]], Mapping[str, float]]
"""A user and items -> each item's score, larger is better."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is trained."""

    modalities: Collection[str] | None = None
    """None for all."""
    fusion: Mapping[str, Any] = field(default_factory=dict)
    written: Written = "tokens"
    has_evidence: bool = False
    has_single_level: bool = True
    """Whether the level of single modalities comes before full fusion; without it, that is as much
    longer."""


VARIANTS: Mapping[str, Variant] = {
    "fused": Variant(),
    **{
        str(name): Variant(modalities=(name,), has_single_level=False)
        for name in (Modality.AUDIO, Modality.IMAGE, Modality.TEXT, Modality.GRAPH)
    },
    "titles": Variant(written="titles", has_single_level=False),
    "no_cma": Variant(fusion={"has_cross_attention": False}),
    "no_amsa": Variant(fusion={"has_self_attention": False}),
    "no_cma_no_amsa": Variant(fusion={"has_cross_attention": False, "has_self_attention": False}),
    "no_levels": Variant(has_single_level=False),
    "tokens_1": Variant(fusion={"num_tokens": 1}),
    "tokens_2": Variant(fusion={"num_tokens": 2}),
    "tokens_8": Variant(fusion={"num_tokens": 8}),
    "both": Variant(written="both"),
    "system": Variant(has_evidence=True),
}


def config_of(name: str, variant: Variant, *, seed: int, quick: bool = False) -> RankerConfig:
    """The product's configuration of a variant; a quick one only tries everything out."""
    training = replace(SETTINGS[name], seed=seed)
    if quick:
        training = replace(training, single_modality_steps=2, fusion_steps=4)
    if not variant.has_single_level:
        steps = training.single_modality_steps + training.fusion_steps
        training = replace(training, single_modality_steps=0, fusion_steps=steps)
    return RankerConfig(
        fusion=replace(FusionConfig(num_tokens=NUM_TOKENS), **variant.fusion),
        llm=LlmConfig(device="cpu"),
        prompt=PromptConfig(
            history_limit=HISTORY, history=variant.written, candidates=variant.written
        ),
        has_evidence=variant.has_evidence,
        training=training,
    )


def items_of(known: World, variant: Variant) -> ItemVectors:
    """The blocks that a variant reads."""
    return known.items if variant.modalities is None else known.items.only(variant.modalities)


def examples(known: World, found: Retriever | None) -> list[Example]:
    """The training moments, each with its choices and even draws; evidence where retrieved."""
    negatives = Negatives(known.moments.item_ids, seed=1 + known.seed)
    bare = {item_id: _bare(item_id) for item_id in known.moments.item_ids}
    made = []
    for place, one in enumerate(known.moments.train):
        drawn = negatives.draw(f"{one.user_id}/{place}", touched=one.met, num=NUM_DRAWN)
        query = Query(user_id=one.user_id, history=one.history)
        item_ids = sorted({*one.chosen, *drawn})
        if found is None:
            candidates = [bare[item_id] for item_id in item_ids]
        else:
            candidates = found.score(query, item_ids)
        made.append(
            Example(
                query=query,
                candidates=tuple(candidates),
                chosen=frozenset(one.chosen),
                weights={} if found is None else found.weights,
            )
        )
    return made


def adapter(
    known: World,
    variant: Variant,
    config: RankerConfig,
    *,
    found: Retriever | None,
    on_progress: Callable[[str, int, int, float], None] | None = None,
) -> Path:
    """Train it, or find it trained."""
    return train(
        examples(known, found if variant.has_evidence else None),
        items=items_of(known, variant),
        titles=known.titles,
        llm=str(known.llm),
        config=config,
        folder=known.folder,
        on_progress=on_progress,
    )


def scorer(
    known: World,
    variant: Variant,
    folder: Path,
    *,
    found: Retriever | None = None,
    absent: frozenset[str] = frozenset(),
) -> Score:
    """An adapter's scores, as the service gives them; by a model that was trained with all
    modalities, asked where these are absent from every item."""
    model = models.load(folder, llm=known.llm)
    items = without(items_of(known, variant), absent)
    fused = tokens.fuse_with(model, items, space=tokens.fused_space(folder))
    reranker = LlmReranker(
        model,
        item_ids=items.item_ids,
        tokens_ND=fused.vectors_ND,
        present={},
        titles=known.titles,
        generation_id="",
    )
    bare = {item_id: _bare(item_id) for item_id in items.item_ids}

    def score(asked: Asked, item_ids: Sequence[str]) -> Mapping[str, float]:
        query = Query(user_id=asked.user_id, history=asked.history)
        if found is None or not variant.has_evidence:
            ranking = reranker.rerank(query, [bare[item_id] for item_id in item_ids])
            return {one.item_id: one.logit for one in ranking.items}
        ranking = reranker.rerank(query, found.score(query, item_ids))
        return {one.item_id: one.score for one in ranking.items}

    return score


def retrieved(found: Retriever) -> Score:
    """The retriever's own scores."""

    def score(asked: Asked, item_ids: Sequence[str]) -> Mapping[str, float]:
        query = Query(user_id=asked.user_id, history=asked.history)
        return {one.item_id: one.score for one in found.score(query, item_ids)}

    return score


def _bare(item_id: str) -> Candidate:
    """Of which nothing was found but that it exists."""
    return Candidate(item_id=item_id, score=0.0, rank=1)
