"""How a route is measured: how deep, by which measure, with how many resamples."""

from dataclasses import dataclass

from evaluation.metrics import METRICS
from evaluation.runs import KS, RECALL_KS


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How a route is measured."""

    num_candidates: int = 100
    ks: tuple[int, ...] = KS
    """Where the final order is cut."""
    recall_ks: tuple[int, ...] = RECALL_KS
    """Where the candidate list is cut."""
    headline: str = "ndcg@10"
    """The measure of the first sentence, of slices and of ablations."""
    batch_size: int = 256
    samples: int = 10_000
    """Resamples of each interval and swaps of each randomization test."""
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.headline not in self.measures:
            raise ValueError(
                f"headline {self.headline!r} is not measured; choose from {self.measures}"
            )
        if not self.recall_ks or max(*self.ks, *self.recall_ks) > self.num_candidates:
            raise ValueError(
                f"ks {self.ks} and recall_ks {self.recall_ks} must lie within num_candidates "
                f"({self.num_candidates}), and recall_ks must not be empty"
            )

    @property
    def measures(self) -> tuple[str, ...]:
        """Every `<metric>@<k>` of a final order."""
        return tuple(f"{name}@{k}" for name in METRICS for k in self.ks)

    @property
    def headline_k(self) -> int:
        """The k of the headline."""
        return int(self.headline.partition("@")[2])
