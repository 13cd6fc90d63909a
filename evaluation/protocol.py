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
    """Users who are asked for at a time; their results become durable together."""
    max_reranked: int | None = None
    """At most so many users' candidates are reranked, drawn evenly, while retrieval is measured on
    everybody; 0 measures retrieval alone. Without it, everybody's are."""
    exact_users: int = 1000
    """For at most so many users, drawn evenly, the index's list is compared with that of an exact
    search; 0 compares none."""
    samples: int = 10_000
    """Resamples of each interval and swaps of each randomization test."""
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("max_reranked", 0), ("exact_users", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
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
