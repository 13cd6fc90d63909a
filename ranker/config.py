"""How the ranker is built and trained. Loads nothing heavy, so that settings can name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Written = Literal["tokens", "titles", "both"]
"""How an item stands in a prompt: as its fused tokens, as its title's words, or as both."""
Lora = Literal["shared", "text", "modal", "separate", "joint"]
Loss = Literal["listwise", "pointwise", "answer", "sequence"]
FramePooling = Literal["max", "mean", "attention"]
LORA_NAMES: Mapping[Lora, tuple[str, ...]] = {
    "shared": ("shared",),
    "text": ("text",),
    "modal": ("modal",),
    "separate": ("text", "modal"),
    "joint": ("text", "modal"),
}
"""What each variant's LoRA modules are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """The triple-modality fusion of an item's vectors into soft tokens."""

    width: int = 64
    heads: int = 4
    num_tokens: int = 4
    """Soft tokens for each item, in the LLM's embedding space."""
    has_cross_attention: bool = True
    """CMA: text asks the other modalities, and they ask text (TMF)."""
    has_self_attention: bool = True
    """AMSA: all modalities attend to each other (TMF)."""
    modality_dropout: float = 0.15
    """In training, how often a modality of all items in a batch is taken away."""
    frames: Mapping[str, int] = field(default_factory=dict)
    """Modalities whose vector is so many frames in a row, each of dimension / frames bands, such as
    log-Mel spectra over time; the ranker pools them itself (ATFLRec)."""
    frame_pooling: FramePooling = "max"
    """How frames become one vector; `attention` is learned."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 1 <= self.num_tokens <= 16:
            raise ValueError(f"num_tokens lies in 1..16, got {self.num_tokens}")
        if not 0 <= self.modality_dropout < 1:
            raise ValueError(f"modality_dropout lies in [0, 1), got {self.modality_dropout}")
        if not all(count >= 1 for count in self.frames.values()):
            raise ValueError(f"frames are at least 1 for each modality, got {dict(self.frames)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedLlmConfig:
    """The small decoder that is made from the catalog's own text where no model is given."""

    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    vocab_size: int = 2000
    warm_up_steps: int = 150
    batch_size: int = 16
    block_tokens: int = 64
    learning_rate: float = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmConfig:
    """Which causal LLM ranks, and how it is adapted."""

    model: str = "embedded"
    """`embedded`, a local folder in Hugging Face format, or a hub id (which needs a revision)."""
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str = "float32"
    """`float32`, `bfloat16` or `float16`: of the LLM's weights; fusion and scores stay float32."""
    quantization: Literal["4bit"] | None = None
    """`4bit` loads the LLM's own weights in NF4, by bitsandbytes; LoRA then stays unmerged."""
    device: str = "auto"
    """`auto` (a GPU where there is one), or a device in torch's words."""
    lora: Lora = "shared"
    """Which LoRA modules there are (ATFLRec): `shared`, one for everything; `text` or `modal`, one
    that is trained only where prompts hold words alone, or only where they hold item tokens;
    `separate`, both, trained one after the other and summed; `joint`, both, trained together."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    embedded: EmbeddedLlmConfig = field(default_factory=EmbeddedLlmConfig)

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype is float32, bfloat16 or float16, got {self.dtype!r}")
        if self.lora not in LORA_NAMES:
            raise ValueError(f"lora is one of {', '.join(LORA_NAMES)}, got {self.lora!r}")
        if self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, got {self.lora_rank}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout lies in [0, 1), got {self.lora_dropout}")

    @property
    def lora_names(self) -> tuple[str, ...]:
        """The LoRA modules that there are, in the order in which they are made and trained."""
        return LORA_NAMES[self.lora]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """What the LLM reads of the user's history and of each candidate."""

    history_limit: int = 30
    """Only so many newest events are read."""
    history: Written = "tokens"
    """How the history's items are written."""
    candidates: Written = "tokens"
    """How the candidate is written."""
    title_tokens: int = 16
    """A longer title is cut off."""
    text_tokens: int = 64
    """A query's text that is longer is cut off."""
    summary_tokens: int = 0
    """Of an item's summary behind its title, wherever titles are written (`titles`, `both`): for
    the history and the candidates apart. 0 writes none."""
    preference_tokens: int = 0
    """Of the user's written preference, before the history (MLLM-MSR). 0 writes none."""
    asks_behavior: bool = False
    """Ask for a behavior: whether the user will view, or purchase (TMF). Training then tells each
    behavior's choices apart, and a query may name the one that it is about."""

    def __post_init__(self) -> None:
        if self.history_limit < 0:
            raise ValueError(f"history_limit must be at least 0, got {self.history_limit}")
        if self.title_tokens < 1:
            raise ValueError(f"title_tokens must be at least 1, got {self.title_tokens}")
        for name in ("text_tokens", "summary_tokens", "preference_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.summary_tokens and self.history == self.candidates == "tokens":
            raise ValueError(
                f"summary_tokens is {self.summary_tokens}, but summaries stand behind titles and "
                f"none are written: set history, candidates or both to 'titles' or 'both'"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """The curriculum (TMF): text alone, single modalities, full fusion; then, if wanted, pairs."""

    text_steps: int = 0
    """Level 1: items are written as titles only. None for the embedded LLM, which was warmed up on
    the catalog's text already."""
    single_modality_steps: int = 100
    """Level 2: every batch sees one modality alone."""
    fusion_steps: int = 600
    """Level 3: full fusion with modality dropout."""
    preference_steps: int = 0
    """Preference tuning after it, against the model that the levels made."""
    preference_beta: float = 0.1
    """How far preference tuning is held to that model; smaller is farther away (DPO)."""
    batch_size: int = 16
    """Prefixes in a step, over all processes."""
    micro_batch_size: int | None = None
    """At most so many prefixes at once; their gradients are added up. None for the whole batch."""
    num_negatives: int = 23
    """Retrieved candidates that the user did not choose, beside each positive."""
    num_candidates: int = 100
    """How deep the retriever is searched for positives and negatives."""
    duplicate_cosine: float | None = 0.98
    """A candidate at least this like a chosen one in every modality that both have is no negative;
    None compares none."""
    max_examples: int = 20_000
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    loss: Loss = "listwise"
    """Of whole scores, `listwise` (softmax over the packed branches) or `pointwise` (binary
    cross-entropy); of what the LLM itself would say next (MLLM-MSR), `answer` (yes or no among all
    words) or `sequence` (the prompt's words as well)."""
    validation_share: float = 0.1
    """The newest so large a share of the moments is not trained on: it tells when to stop, and
    calibrates. 0 trains on all, to the end, and leaves the scores as they are."""
    check_every: int = 50
    """Steps from one look at the validation moments to the next."""
    patience: int = 0
    """A level ends after so many looks without a better one, and its best weights are kept; 0
    trains to the end."""
    save_every: int = 50
    """Steps from which an interrupted run goes on at the latest."""
    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    """Compute the LLM's layers again on the way back instead of keeping what they made."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            known = ", ".join(map(repr, get_args(Loss)))
            raise ValueError(f"loss is one of {known}, got {self.loss!r}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share lies in [0, 1), got {self.validation_share}")
        if self.preference_beta <= 0:
            raise ValueError(f"preference_beta must be above 0, got {self.preference_beta}")
        for name in ("batch_size", "num_negatives", "check_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """All of it."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    has_evidence: bool = True
    """The retriever's findings are read: as the prior that the LLM's answer is added to, and as a
    token. Without them the LLM is alone with the items (an ablation)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
