"""Where a training stands, and what it met. JSON can hold it."""

from dataclasses import dataclass, field
from typing import Any

from ranker.curriculum import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How well the model did on held-out moments after some steps of a stage."""

    stage: str
    step: int
    loss: float
    """Mean over the moments of the configured loss, over whole lists: `listwise` as the surprise
    at each choice among itself and all that was not chosen; `answer` and `sequence` as the binary
    cross-entropy of yes against no, of the LLM's logits alone."""
    ndcg: float
    """NDCG@10, of the order by whole scores; ties fall by item id."""


@dataclass(kw_only=True)
class Progress:
    """Of a training by a plan."""

    place: int = 0
    """Of the stage, in the plan."""
    step: int = 0
    """Steps done in it."""
    late: float = 0.0
    """Mean loss of late."""
    losses: dict[str, float] = field(default_factory=dict)
    """By finished stage, the mean loss of late at its end."""
    steps: dict[str, int] = field(default_factory=dict)
    """By finished stage, the steps it took."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage, what it took so far."""
    looks: list[Look] = field(default_factory=list)
    """Oldest first."""

    @property
    def total(self) -> int:
        """Steps done in all stages."""
        return sum(self.steps.values()) + self.step

    def of(self, stage: Stage) -> list[Look]:
        """The looks of a stage, oldest first."""
        return [look for look in self.looks if look.stage == stage.name]

    def best(self, stage: Stage) -> Look:
        """The look with the least loss; the first among equal ones."""
        return min(self.of(stage), key=lambda look: (look.loss, look.step))

    def waited(self, stage: Stage) -> int:
        """Looks since the best one."""
        looks = self.of(stage)
        return len(looks) - 1 - looks.index(self.best(stage))

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Progress":
        """The reverse of `dataclasses.asdict`."""
        return cls(**{**facts, "looks": [Look(**look) for look in facts["looks"]]})
