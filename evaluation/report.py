"""Everything an evaluation found, in one noun; `as_dict` gives it stable, documented keys.

The keys are explained in docs/report.md. Values are macro averages over users.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.example import Example
from evaluation.movement import Movement
from evaluation.significance import Interval
from evaluation.slices import Slice

FORMAT = 1  # raised when a key changes its meaning or goes away
ROUTES = ("popularity", "retrieval_order", "calibrated", "rerank", "ceiling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Interval):
    """The mean difference of two runs over the same users, with its paired interval."""

    p_value: float
    """Two-sided, by paired randomization."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The whole route with one modality left out of retrieval and of fusion."""

    modality: str
    retrieval_order: Mapping[str, float]
    rerank: Mapping[str, float]
    candidate_recall: Mapping[str, float]
    """`recall@K` of the candidates that it found itself."""
    delta: Difference
    """Of the headline measure: the full route minus this one, both reranked."""
    p_value_holm: float
    """Corrected for the number of ablations."""
    recall_delta: Difference
    """Of the deepest candidate recall: the full route minus this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallCurve:
    """Candidate recall by how many candidates are kept."""

    ks: tuple[int, ...]
    retrieval: tuple[float, ...]
    popularity: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an evaluation found, and under which circumstances."""

    headline: str
    """The measure that the first sentence speaks of, e.g. `ndcg@10`."""
    routes: Mapping[str, Mapping[str, Interval]]
    """Route (see ROUTES) -> `<metric>@<k>` -> mean and interval."""
    candidate_recall: Mapping[str, Interval]
    delta: Mapping[str, Difference]
    """`<metric>@<k>` -> reranked minus retrieval order."""
    llm_delta: Mapping[str, Difference]
    """`<metric>@<k>` -> reranked minus calibrated: what the LLM adds to the prior."""
    ablations: tuple[Ablation, ...]
    slices: tuple[Slice, ...]
    curve: RecallCurve
    movement: Movement
    counts: Mapping[str, int]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    """Where the numbers come from: scalars, or mappings of scalars."""
    example: Example | None = None

    @property
    def num_users(self) -> int:
        """How many users were judged."""
        return self.counts["num_users_judged"]

    @property
    def slice_measure(self) -> str:
        """What slices compare: NDCG at the headline's k."""
        return f"ndcg@{self.headline.partition('@')[2]}"

    @property
    def headroom(self) -> float | None:
        """The part of the possible gain that reranking made: 1 is the best order of the same
        candidates. None where retrieval's order leaves nothing to gain."""
        before, after, best = (
            self.routes[name][self.headline].mean
            for name in ("retrieval_order", "rerank", "ceiling")
        )
        return (after - before) / (best - before) if best > before else None


def as_dict(report: Report) -> dict[str, Any]:
    """The report as nested plain values, ready for JSON; see docs/report.md for every key."""
    groups: dict[str, dict[str, Any]] = {}
    for part in report.slices:
        facts = asdict(part)
        groups.setdefault(facts.pop("group"), {})[facts.pop("name")] = facts
    return {
        "format": FORMAT,
        "headline": report.headline,
        "retrieval": {name: one.mean for name, one in report.candidate_recall.items()},
        **{
            route: {name: one.mean for name, one in report.routes[route].items()}
            for route in ROUTES
        },
        "delta": {name: asdict(one) for name, one in report.delta.items()},
        "llm_delta": {name: asdict(one) for name, one in report.llm_delta.items()},
        "headroom": report.headroom,
        "ablation": {one.modality: _ablation(one) for one in report.ablations},
        "slices": groups,
        "curve": asdict(report.curve),
        "movement": asdict(report.movement) | {"bins": dict(report.movement.bins)},
        "intervals": {
            "retrieval": {name: asdict(one) for name, one in report.candidate_recall.items()},
            **{
                route: {name: asdict(one) for name, one in report.routes[route].items()}
                for route in ROUTES
            },
        },
        "counts": dict(report.counts),
        "config": dict(report.config),
        "manifest": dict(report.manifest),
        "example": asdict(report.example) if report.example else None,
    }


def _ablation(one: Ablation) -> dict[str, Any]:
    return {
        **one.rerank,
        "retrieval": dict(one.candidate_recall),
        "retrieval_order": dict(one.retrieval_order),
        "delta": asdict(one.delta) | {"p_value_holm": one.p_value_holm},
        "recall_delta": asdict(one.recall_delta),
    }
