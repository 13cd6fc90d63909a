"""A few opinions in, the product's ranker trained on them and its scores of others out.

An opinion is a query of one candidate: the participant in words before an empty history, the song
by its title and its fused tokens. There is no retriever, hence no evidence and no prior. What is
trained in which level is the product's own plan (`ranker.curriculum`), the loss is binary
cross-entropy over single rows: likes and dislikes come from different participants, so that there
are no lists to compare within.

Settings are TALLRec's (arXiv 2305.00447) in kind, scaled to a model of two layers: LoRA of rank 8
and alpha 16, without its dropout, in batches of at most 16 rows; steps and learning rate are chosen
on the songs that nothing is reported of.

Shape legend: J judged opinions, B rows of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _emotify import NUM_FRAMES, Emotify, labels
from numpy.typing import NDArray

from embedders.items import Modality
from ranker import embedded_llm
from ranker import llm as llms
from ranker.batches import Batches, Drawn
from ranker.config import (
    EmbeddedLlmConfig,
    FramePooling,
    FusionConfig,
    LlmConfig,
    Lora,
    PromptConfig,
    RankerConfig,
    TrainingConfig,
)
from ranker.curriculum import Stage, plan
from ranker.examples import Example
from ranker.model import RankerModel
from ranker.prompts import OTHER
from ranker.trainer import pace
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors

BATCH = 16
JUDGED_AT_ONCE = 256
BOTH = (Modality.AUDIO, Modality.TEXT)
LLM = EmbeddedLlmConfig(
    hidden_size=64, num_layers=2, num_heads=4, vocab_size=1000, warm_up_steps=300
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How long and how fast; chosen on the songs that nothing is reported of."""

    steps: int
    """Of each level."""
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of ATFLRec's tables."""

    lora: Lora = "separate"
    pooling: FramePooling = "max"
    num_mels: int = 80
    reads: tuple[Modality, ...] = BOTH
    """With text, a song's words are written and its text vector is fused."""
    with_felt: bool = False
    """The prompt tells what the song made the participant feel."""

    def config(self, setting: Setting, *, k: int, seed: int) -> RankerConfig:
        """As the product is configured."""
        has_words = Modality.TEXT in self.reads
        # Without a word of the song there is nothing to learn from words alone.
        lora = self.lora if has_words else "modal"
        frames = {str(Modality.AUDIO): NUM_FRAMES} if Modality.AUDIO in self.reads else {}
        return RankerConfig(
            fusion=FusionConfig(frames=frames, frame_pooling=self.pooling),
            llm=LlmConfig(
                lora=lora,
                lora_rank=8,
                lora_alpha=16,
                device="cpu",
                embedded=LLM,
            ),
            prompt=PromptConfig(candidates="both" if has_words else "tokens", title_tokens=12),
            has_evidence=False,
            training=TrainingConfig(
                text_steps=0 if lora == "modal" else setting.steps,
                single_modality_steps=0,
                fusion_steps=setting.steps,
                batch_size=min(BATCH, k),
                learning_rate=setting.learning_rate,
                loss="pointwise",
                seed=seed,
            ),
        )


def make_llm(known: Emotify, places: NDArray[np.int64], folder: Path) -> Path:
    """The embedded LLM, warmed up on the songs' words and on the participants of some opinions."""
    asked = [known.opinions[place] for place in places]
    sentences = {one.sentence(with_felt=felt) for one in asked for felt in (False, True)}
    return embedded_llm.make(
        [*known.titles.values(), *sorted(sentences)],
        behaviors=[],
        folder=folder,
        config=LLM,
        seed=0,
    )


def scores(
    variant: Variant,
    known: Emotify,
    items: ItemVectors,
    *,
    llm: Path,
    learned: NDArray[np.int64],
    judged: NDArray[np.int64],
    setting: Setting,
    seed: int,
) -> NDArray[np.float64]:
    """Train on some opinions, score others: logit of yes minus that of no, [J].

    Args:
        variant: What is trained, and what it reads.
        known: The set.
        items: The songs' vectors; what the variant does not read is left out.
        llm: As `make_llm` made it.
        learned: The places of the opinions to train on.
        judged: Of those to score.
        setting: How long and how fast.
        seed: Of fresh weights, the order of rows, and dropout.
    """
    config = variant.config(setting, k=len(learned), seed=seed)
    items = items.only([str(one) for one in variant.reads])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = RankerModel(
            llms.load(llm, config=config.llm),
            spaces=items.spaces,
            behaviors=(OTHER,),
            config=config,
        )
        model.adapt()
        batches = Batches(model, [], items=items, titles=known.titles)
        for stage in plan(config):
            torch.manual_seed(seed + stage.level)
            _train(model, batches, stage, known=known, learned=learned, variant=variant)
    model.eval()
    order = sorted(judged.tolist(), key=lambda place: known.opinions[place].song)
    found = np.empty(len(order))
    for start in range(0, len(order), JUDGED_AT_ONCE):
        some = order[start : start + JUDGED_AT_ONCE]
        drawn = _drawn(known, some, variant, sees="all")
        with torch.inference_mode():
            found[start : start + len(some)] = batches.answers(drawn)[1][:, 0].numpy()
    place_of = {place: row for row, place in enumerate(order)}
    return found[[place_of[place] for place in judged.tolist()]]


def _train(
    model: RankerModel,
    batches: Batches,
    stage: Stage,
    *,
    known: Emotify,
    learned: NDArray[np.int64],
    variant: Variant,
) -> None:
    """One level, as `ranker.trainer` runs it, on labeled rows instead of lists."""
    config = model.config.training
    model.train_only(stage.parts, lora=stage.lora)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng([config.seed, stage.level])
    rows = _rows(rng, learned, config.batch_size)
    model.train()
    for step in range(stage.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * pace(step, stage)
        some = next(rows)
        drawn = _drawn(known, some.tolist(), variant, sees=stage.sees)
        if stage.sees == "all":
            drawn = replace(drawn, dropped=_dropped(rng, model))
        logits_B = batches.run(drawn)[:, 0]
        truth_B = torch.from_numpy(labels(known, some)).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_B, truth_B)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()


def _rows(
    rng: np.random.Generator, learned: NDArray[np.int64], size: int
) -> Iterator[NDArray[np.int64]]:
    """Every row once before any comes again."""
    due = np.empty(0, dtype=np.int64)
    while True:
        while len(due) < size:
            due = np.concatenate([due, rng.permutation(learned)])
        yield due[:size]
        due = due[size:]


def _dropped(rng: np.random.Generator, model: RankerModel) -> tuple[Modality, ...]:
    """Modality dropout: never all of them."""
    chance = model.config.fusion.modality_dropout
    dropped = tuple(one for one in model.modalities if rng.random() < chance)
    return dropped if len(dropped) < len(model.modalities) else ()


def _drawn(known: Emotify, places: list[int], variant: Variant, *, sees: str) -> Drawn:
    examples = []
    for place in places:
        one = known.opinions[place]
        examples.append(
            Example(
                query=Query(history=(), text=one.sentence(with_felt=variant.with_felt)),
                candidates=(Candidate(item_id=one.song, score=0.0, rank=1),),
                chosen=frozenset({one.song} if one.is_liked else ()),
                weights={},
            )
        )
    return Drawn(
        sees=sees,  # type: ignore[arg-type]
        dropped=(),
        examples=tuple(examples),
        picked=((0,),) * len(examples),
    )
