"""How the ranker is built and trained. Loads nothing heavy, so that settings can name it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """The triple-modality fusion of an item's vectors into soft tokens."""

    width: int = 64
    heads: int = 4
    num_tokens: int = 2
    """Soft tokens for each item, in the LLM's embedding space."""
    has_cross_attention: bool = True
    """CMA: text asks the other modalities, and they ask text (TMF)."""
    has_self_attention: bool = True
    """AMSA: all modalities attend to each other (TMF)."""
    modality_dropout: float = 0.15
    """In training, how often a modality of all items in a batch is taken away."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 1 <= self.num_tokens <= 16:
            raise ValueError(f"num_tokens lies in 1..16, got {self.num_tokens}")


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
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    embedded: EmbeddedLlmConfig = field(default_factory=EmbeddedLlmConfig)

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype is float32, bfloat16 or float16, got {self.dtype!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """What the LLM reads of the user's history and of each candidate."""

    history_limit: int = 30
    """Only so many newest events are read."""
    history_titles: bool = False
    """Write titles beside the fused tokens in the history."""
    candidate_titles: bool = False
    """Write the candidate's title beside its fused tokens."""
    title_tokens: int = 16
    """A longer title is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """The curriculum: single modalities, then full fusion; the text warm-up precedes both."""

    single_modality_steps: int = 100
    """Stage 2 of TMF's curriculum: every batch sees one modality alone."""
    fusion_steps: int = 600
    """Stage 3: full fusion with modality dropout."""
    batch_size: int = 16
    """Prefixes in a step."""
    num_negatives: int = 23
    """Retrieved candidates that the user did not choose, beside each positive."""
    num_candidates: int = 100
    """How deep the retriever is searched for positives and negatives."""
    max_examples: int = 20_000
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    loss: str = "listwise"
    """`listwise` (softmax over the packed branches) or `pointwise` (binary cross-entropy)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in ("listwise", "pointwise"):
            raise ValueError(f"loss is 'listwise' or 'pointwise', got {self.loss!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """All of it."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
