"""How encoders are tuned. Loads nothing heavy, so that settings can name it."""

from dataclasses import dataclass
from typing import Literal, get_args

Base = Literal["vbpr", "bm3", "lightgcn"]
Method = Literal["lora", "ia3", "prompt", "prefix", "bitfit"]
Regime = Literal["dual", "no_transfer", "joint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """PTMRec's two stages, and what they are compared with."""

    base: Base = "vbpr"
    """The recommender of stage 1 that learns what users like, on frozen features."""
    dim: int = 64
    """Of its embeddings of users and items."""
    epochs: int = 100
    """Of stage 1, at most; the validation cut ends it."""
    patience: int = 10
    """Stage 1 ends after so many epochs without a better one."""
    base_batch_size: int = 2048
    """Choices in a step of stage 1."""
    base_learning_rate: float = 1e-3
    base_weight_decay: float = 1e-3
    """L2 on the vectors of users and items that a step of stage 1 compares."""
    method: Method = "lora"
    """Which of an encoder's parameters are tuned, all else frozen."""
    rank: int = 8
    """Of LoRA."""
    num_virtual_tokens: int = 4
    """Of prompt and prefix."""
    regime: Regime = "dual"
    """dual: stage 1, then the encoders under its guidance (PTMRec). no_transfer: without that
    guidance, BPR alone. joint: recommender and encoders at once, from the start. Both are for
    comparison."""
    steps: int = 300
    """Of stage 2."""
    batch_size: int = 64
    """Items in a step of stage 2, among which knowledge is transferred."""
    learning_rate: float = 5e-4
    temperature: float = 0.2
    """Of both similarities' softmax."""
    transfer_weight: float = 1.0
    """Of the divergence beside BPR."""
    max_trained_share: float = 0.02
    """More than this share of an encoder's parameters is refused: that is no longer
    parameter-efficient."""
    refit_epochs: int = 0
    """Of the recommender on the tuned features in the end, at most, ended as stage 1 is; it shows
    what they are worth, and changes no adapter. 0 only measures it as it stands."""
    joint_epochs: int = 20
    """joint: of the recommender, spread over the steps."""
    refresh_every: int = 100
    """Steps after which joint, and the base lightgcn, embed all items anew."""
    save_every: int = 25
    """Steps from which an interrupted run goes on at the latest."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "dim",
            "epochs",
            "patience",
            "base_batch_size",
            "rank",
            "num_virtual_tokens",
            "steps",
            "joint_epochs",
            "refresh_every",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, got {self.batch_size}")
        for name in ("base_learning_rate", "learning_rate", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("transfer_weight", "base_weight_decay", "refit_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name, allowed in (("base", Base), ("method", Method), ("regime", Regime)):
            if getattr(self, name) not in get_args(allowed):
                names = ", ".join(get_args(allowed))
                raise ValueError(f"{name} must be one of {names}, got {getattr(self, name)!r}")
        if not 0 < self.max_trained_share <= 1:
            raise ValueError(f"max_trained_share lies in (0, 1], got {self.max_trained_share}")
