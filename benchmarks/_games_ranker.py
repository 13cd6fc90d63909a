"""Lists to train on in, the product's ranker out; and lists to rank in, their scores out.

What is fused: the titles' vectors, and as the graph's modality what the events before the targets
of `valid` say of an item, its vector of the graph beside that of the sequence encoder. These stay
as they were when the ranker was trained. What the retriever finds of a candidate comes from the
models that were trained up to the target in question: its cosines mean the same in both.

Shape legend: N items, D dimensions, K items of a list, E items of all lists.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _games import Games
from _games_lists import Lists
from games_recall import Models
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.vectors import Embeddings, Space
from ranker import embedded_llm, tokens
from ranker import model as models
from ranker.config import (
    EmbeddedLlmConfig,
    FusionConfig,
    LlmConfig,
    PromptConfig,
    RankerConfig,
    TrainingConfig,
)
from ranker.evidence import features
from ranker.llm_reranker import LlmReranker
from ranker.training import train
from retrieval.candidates import Candidate
from retrieval.concatenated import NEIGHBORS, ItemVectors

CONFIG = RankerConfig(
    fusion=FusionConfig(num_tokens=1, modality_dropout=0.0),
    # Prompts hold no words but the frame's, so that the LLM need not have read any.
    llm=LlmConfig(embedded=EmbeddedLlmConfig(hidden_size=64, warm_up_steps=1)),
    prompt=PromptConfig(history_limit=10),
    training=TrainingConfig(
        single_modality_steps=0,
        fusion_steps=4000,
        batch_size=32,
        num_negatives=15,
        learning_rate=1e-3,
        check_every=500,
        save_every=250,
    ),
)


def quick(config: RankerConfig) -> RankerConfig:
    """The same in seconds."""
    embedded = replace(config.llm.embedded, hidden_size=32, num_layers=1, warm_up_steps=5)
    return replace(
        config,
        fusion=replace(config.fusion, width=16),
        llm=replace(config.llm, embedded=embedded, lora_rank=4),
        training=replace(config.training, fusion_steps=20),
    )


def vectors(titles: ItemVectors, known: Models) -> ItemVectors:
    """What the ranker reads: the titles, the events, and two blocks that are not fused, but in
    which candidates are found: the sequence encoder's, and the neighbors' without any vectors."""
    sequence = known.sequence.items(titles)
    events_ND = np.concatenate([known.graph_ND, sequence.vectors_ND], axis=1)
    events = Embeddings(
        space=Space(
            modality=Modality.GRAPH,
            encoder="graph and sequence",
            revision=hashlib.sha256(events_ND.tobytes()).hexdigest()[:16],
            dim=events_ND.shape[1],
            is_normalized=False,
        ),
        item_ids=titles.item_ids,
        vectors_ND=events_ND,
    )
    neighbors = Embeddings(
        space=Space(
            modality=None, encoder=NEIGHBORS, revision="logarithms", dim=1, is_normalized=False
        ),
        item_ids=titles.item_ids,
        vectors_ND=np.zeros((len(titles), 1), dtype=np.float32),
    )
    return titles.joined(sequence).joined(events).joined(neighbors)


def adapter(
    games: Games, lists: Lists, held: Lists, *, items: ItemVectors, config: RankerConfig, into: Path
) -> Path:
    """Train the ranker, or find it trained.

    Args:
        games: Whose titles the embedded LLM is made of.
        lists: What is trained on.
        held: What is not: the LLM's weight in the score is fitted there.
        items: As `vectors` makes them.
        config: With the seed.
        into: A folder for models.
    """
    llm = embedded_llm.make(
        [title for title in games.titles if title],
        behaviors=["review"],
        folder=into / "llm",
        config=config.llm.embedded,
        seed=config.training.seed,
    )

    def told(stage: str, step: int, steps: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"{stage}: step {step} of {steps}, loss {loss:.4f}", flush=True)

    return train(
        lists,
        validation=held,
        items=items,
        titles=dict(zip(games.item_ids, games.titles, strict=True)),
        llm=str(llm),
        config=config,
        folder=into / "adapters",
        on_progress=told,
    )


class Ranker:
    """A trained adapter with the items, as it is served."""

    def __init__(self, folder: Path, items: ItemVectors, titles: Mapping[str, str]) -> None:
        """Load an adapter and fuse all items."""
        self.name = folder.name
        self.model = models.load(folder)
        fused = tokens.fuse_with(self.model, items, space=tokens.fused_space(folder))
        self._reranker = LlmReranker(
            self.model,
            item_ids=items.item_ids,
            tokens_ND=fused.vectors_ND,
            present=dict.fromkeys(items.item_ids, items.modalities),
            titles=titles,
            generation_id=folder.name,
        )

    def scores(self, lists: Lists) -> dict[str, NDArray[np.float32]]:
        """What each item of some lists is worth to each system, [E] each: to the retriever alone,
        by the prior, and reranked."""
        parts = [np.zeros((0, 3), dtype=np.float32)]
        for place in range(len(lists)):
            example = lists[place]
            ranking = self._reranker.rerank(example.query, example.candidates)
            said = {one.item_id: one.score for one in ranking.items}
            ids = [one.item_id for one in example.candidates]
            priors = dict(zip(ids, self._priors(example.candidates), strict=True))
            rows_K, found_KF = lists.held(place)
            names = [lists.item_ids[row] for row in rows_K.tolist()]
            known_K2 = np.array([(priors[name], said[name]) for name in names]).reshape(-1, 2)
            parts.append(np.column_stack([found_KF[:, -1], known_K2]).astype(np.float32))
        columns = np.concatenate(parts).T
        return dict(zip(("retriever", "prior", "reranked"), columns, strict=True))

    @torch.inference_mode()
    def _priors(self, candidates: Sequence[Candidate]) -> list[float]:
        found = torch.from_numpy(features(candidates, self.model.blocks))
        priors: list[float] = self.model.evidence(found)[1].tolist()
        return priors
