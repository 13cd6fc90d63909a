"""Who writes, and how. Loads nothing heavy, so that settings can name it."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterConfig:
    """Which engine writes.

    Raises:
        ValueError: an engine without the model or address that it needs, or with one it does not
            take.
    """

    engine: Literal["template", "transformers", "openai"] = "template"
    """template: no model at all, the catalog's own words put in order; transformers: a model in
    this process; openai: a server that speaks OpenAI's chat completions, such as vLLM or SGLang."""
    model: str | None = None
    """A folder or hub id; of a server the model's name there."""
    revision: str | None = None
    """A hub model's commit. Of a server, any word: another one says that other weights serve."""
    trust_remote_code: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    batch_size: int = 8
    """Prompts that are answered at once in this process."""
    url: str | None = None
    """A server's, up to and with /v1."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the server's key; unset, none is sent."""
    concurrency: int = 8
    """Prompts that a server answers at once."""
    shows: tuple[Literal["image", "audio"], ...] = ("image",)
    """What a server's model can be shown beside words: it does not say so itself."""
    insecure: bool = False
    """Whether the key may travel to another machine without TLS."""
    timeout_s: float = 120.0
    retries: int = 4
    """Of a prompt, where a server is busy, unreachable or slow."""
    temperature: float = 0.0
    """0 is greedy: equal prompts give equal texts."""
    seed: int = 0
    input_price: float | None = None
    """Of a million tokens, in any currency: progress then shows what was spent."""
    output_price: float | None = None

    def __post_init__(self) -> None:
        needs = {"template": (), "transformers": ("model",), "openai": ("model", "url")}
        for name in needs[self.engine]:
            if getattr(self, name) is None:
                raise ValueError(f"the engine {self.engine!r} needs {name!r}")
        for name in ("model", "url"):
            if getattr(self, name) is not None and name not in needs[self.engine]:
                raise ValueError(f"the engine {self.engine!r} takes no {name!r}")
        for name in ("batch_size", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.retries < 0 or self.timeout_s <= 0 or self.temperature < 0:
            raise ValueError("retries and temperature must be at least 0, timeout_s above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryConfig:
    """How items are summarized (MLLM-MSR, stage 1a)."""

    writer: WriterConfig = field(default_factory=WriterConfig)
    max_tokens: int = 64
    """Of each part (words, picture, sound), so that none outweighs another, and of the whole. The
    template, which knows no tokens, has a bound of its own."""
    attributes: tuple[str, ...] | None = None
    """Which further columns of the catalog are read, in this order. None: all, by name, whose value
    holds a letter and is no address; numbers alone, such as prices, change often and say little."""

    def __post_init__(self) -> None:
        if not 8 <= self.max_tokens <= 1024:
            raise ValueError(f"max_tokens lies in 8..1024, got {self.max_tokens}")
        named = self.attributes or ()
        if len(set(named)) != len(named) or not all(named):
            raise ValueError(f"attributes are columns, each once, got {named}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceConfig:
    """How a user's preference is told, block by block (MLLM-MSR, stage 1b)."""

    writer: WriterConfig = field(default_factory=WriterConfig)
    mode: Literal["recurrent", "direct"] = "recurrent"
    """recurrent: of a block of events and of what was written before it. direct: of all events up
    to there at once (an ablation)."""
    block_size: int = 3
    """Events of a block; fewer wait for the others."""
    max_events: int = 50
    """direct reads a user's last so many."""
    max_tokens: int = 128
    """The template has a bound of its own."""

    def __post_init__(self) -> None:
        for name in ("block_size", "max_events"):
            if not 1 <= getattr(self, name) <= 200:  # what a frame holds
                raise ValueError(f"{name} lies in 1..200, got {getattr(self, name)}")
        if not 8 <= self.max_tokens <= 2048:
            raise ValueError(f"max_tokens lies in 8..2048, got {self.max_tokens}")
