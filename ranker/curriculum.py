"""A configuration in, the stages of training out, in order. Loads nothing heavy.

TMF names three levels: prompts of text alone first, then single modalities, then all of them
fused. Preference tuning after them is this project's own choice. Which LoRA modules a level
trains is ATFLRec's question; its five answers, as this project resolves them:

    shared     one module, trained in every level
    text       trained by prompts of words alone, and kept as it is afterwards
    modal      trained from the first prompt on that holds item tokens
    separate   text as above, then modal as above; both are summed
    joint      both modules are trained in every level, and summed
"""

from dataclasses import dataclass
from typing import Literal

from ranker.config import Lora, Loss, RankerConfig

Sees = Literal["titles", "single", "all"]
"""What a batch sees: titles and what the text block found; one modality; or all of them."""
Part = Literal["fusion", "evidence", "behaviors"]

TEXT, SINGLE, FUSION, PREFERENCE = "text", "single modalities", "fusion", "preference"
GENTLE = 0.1  # of the learning rate, in preference tuning: it is to correct, not to learn anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One level of the curriculum."""

    name: str
    level: int
    """From 1. Seeds count it, so that leaving out a level draws the others the same."""
    num_steps: int
    sees: Sees
    parts: tuple[Part, ...]
    """What is trained besides LoRA."""
    lora: tuple[str, ...]
    """The LoRA modules that are trained, by name; all others stay as they are, and count."""
    loss: Loss | Literal["preference"]
    rate: float = 1.0
    """The learning rate, as a share of the configured one."""


def plan(config: RankerConfig) -> tuple[Stage, ...]:
    """The levels that have any steps, in order.

    Raises:
        ValueError: LoRA is to be trained by text alone, and that level has no steps; or that level
            has steps, and nothing to train.
    """
    training, lora = config.training, config.llm.lora
    if lora in ("text", "separate") and not training.text_steps and training.fusion_steps:
        raise ValueError(
            f"ranker.llm.lora {lora!r} trains a module by text alone, but "
            f"ranker.training.text_steps is 0: give that level steps, or choose 'shared', 'modal' "
            f"or 'joint'"
        )
    if lora == "modal" and training.text_steps and not config.has_evidence:
        raise ValueError(
            "ranker.llm.lora 'modal' trains nothing by text alone, and there is no evidence to "
            "train: set ranker.training.text_steps to 0, or choose 'separate' or 'joint'"
        )
    spoken: tuple[Part, ...] = ("behaviors", *_evidence(config))
    everything: tuple[Part, ...] = ("fusion", *spoken)
    written, modal = _modules(lora)
    stages = (
        Stage(
            name=TEXT,
            level=1,
            num_steps=training.text_steps,
            sees="titles",
            parts=spoken,
            lora=written,
            loss=training.loss,
        ),
        Stage(
            name=SINGLE,
            level=2,
            num_steps=training.single_modality_steps,
            sees="single",
            parts=everything,
            lora=modal,
            loss=training.loss,
        ),
        Stage(
            name=FUSION,
            level=3,
            num_steps=training.fusion_steps,
            sees="all",
            parts=everything,
            lora=modal,
            loss=training.loss,
        ),
        Stage(
            name=PREFERENCE,
            level=4,
            num_steps=training.preference_steps,
            sees="all",
            parts=everything,
            lora=modal,
            loss="preference",
            rate=GENTLE,
        ),
    )
    return tuple(stage for stage in stages if stage.num_steps)


def _evidence(config: RankerConfig) -> tuple[Part, ...]:
    return ("evidence",) if config.has_evidence else ()


def _modules(lora: Lora) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the text level trains, and what the others do."""
    match lora:
        case "shared":
            return ("shared",), ("shared",)
        case "text":
            return ("text",), ()
        case "modal":
            return (), ("modal",)
        case "separate":
            return ("text",), ("modal",)
        case "joint":
            return ("text", "modal"), ("text", "modal")
