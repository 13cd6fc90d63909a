"""Everything an evaluation found, in one noun; `as_dict` gives it stable, documented keys.

The keys are explained in docs/report.md, and report.schema.json holds every report to them. Values
are macro averages over users, unless they count something.

Two stages are reported apart: what retrieval finds, over all judged users, and what reranking makes
of it, over those whose candidates were reranked. Mostly these are the same users.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.example import Example, Explained
from evaluation.ledger import Ledger
from evaluation.movement import Movement
from evaluation.scored import Calibration
from evaluation.significance import Difference, Interval
from evaluation.slices import Slice
from evaluation.whole_list import WholeList

FORMAT = 2  # raised when a key changes its meaning or goes away
ROUTES = ("popularity", "retrieval_order", "calibrated", "rerank", "ceiling")


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
    """Corrected for every comparison of the report, as in `delta`."""
    recall_delta: Difference
    """Of the deepest candidate recall: the full route minus this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallCurve:
    """Candidate recall by how many candidates are kept."""

    ks: tuple[int, ...]
    retrieval: tuple[float, ...]
    popularity: tuple[float, ...]
    exact_ks: tuple[int, ...] = ()
    """Up to the size of the catalog; empty where exact search was not asked."""
    exact: tuple[float, ...] = ()
    """What an exact search would find."""
    infinity: float | None = None
    """The same without any limit: what no K can exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLoss:
    """What the index loses against an exact search of the same vectors."""

    limit: int
    """How many candidates both give: K."""
    num_users_compared: int
    """A sample of the judged users, over whom `overlap` is."""
    overlap: Interval
    """The share of the exact first K that the index found."""
    recall: Interval
    """Recall@K of the index, over all judged users."""
    exact_recall: Interval
    """Recall@K of exact search."""
    loss: Difference
    """Recall@K: exact search minus the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuality:
    """What one route's scores are good for, besides an order at the head of the list."""

    auc: float | None
    """Within users, over those whose candidates hold both chosen items and others; None where
    there is no such user."""
    calibration: Calibration | None
    """Of the scores read as log odds of a choice; None where there is no candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an evaluation found, and under which circumstances."""

    headline: str
    """The measure that the first sentence speaks of, e.g. `ndcg@10`."""
    routes: Mapping[str, Mapping[str, Interval]]
    """Route -> `<metric>@<k>` -> mean and interval, all routes over the same users: those whose
    candidates were reranked. `calibrated` and `rerank` are missing where nobody's were."""
    everybody: Mapping[str, Mapping[str, Interval]] | None
    """The routes that need no reranker over all judged users; None where these are the same."""
    candidate_recall: Mapping[str, Interval]
    """`recall@K`, over all judged users."""
    index_loss: IndexLoss | None
    """None where exact search was not asked."""
    delta: Mapping[str, Difference]
    """`<metric>@<k>` -> reranked minus retrieval order; empty where nobody reranked."""
    llm_delta: Mapping[str, Difference]
    """`<metric>@<k>` -> reranked minus calibrated: what the LLM adds to the prior; or empty."""
    ablations: tuple[Ablation, ...]
    slices: tuple[Slice, ...]
    curve: RecallCurve
    """Over all judged users."""
    movement: Movement | None
    """None where nobody reranked."""
    ledger: Ledger | None
    """Where positives got lost, to the end of the route; None where exact search was not asked."""
    retrieval_ledger: Ledger | None
    """The same in retrieval's order over all judged users, where only some were reranked."""
    scores: Mapping[str, ScoreQuality]
    """`calibrated` and `rerank` -> how true its scores are; empty where nobody reranked."""
    whole_lists: Mapping[str, WholeList]
    """Route -> what its first k show of the catalog; empty where the catalog is not known."""
    index: Mapping[str, Any]
    """Of the index that answered: `kind`, `effort`, and the `curve` that was measured when it was
    built."""
    counts: Mapping[str, int]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    """Where the numbers come from: scalars, or mappings of scalars."""
    example: Example | None = None
    explained: tuple[Explained, ...] = ()
    """A few users' first items with what their scores are made of; empty where nobody was asked."""
    behaviors: tuple[Slice, ...] = ()
    """The route asked about each behavior, judged by it alone, over at most as many users as are
    reranked; empty where the ranker tells none apart."""

    @property
    def num_users(self) -> int:
        """How many users were judged."""
        return self.counts["num_users_judged"]

    @property
    def num_reranked(self) -> int:
        """Of how many of them the candidates were reranked."""
        return self.counts["num_users_reranked"]

    @property
    def is_reranked(self) -> bool:
        """Whether anybody's were; else retrieval's order is what is delivered."""
        return "rerank" in self.routes

    @property
    def final(self) -> str:
        """The route that is delivered."""
        return "rerank" if self.is_reranked else "retrieval_order"

    @property
    def slice_measure(self) -> str:
        """What slices compare: NDCG at the headline's k."""
        return f"ndcg@{self.headline.partition('@')[2]}"

    @property
    def deepest(self) -> str:
        """The deepest candidate recall, `recall@100`."""
        return max(self.candidate_recall, key=lambda name: int(name.partition("@")[2]))

    @property
    def measures(self) -> tuple[str, ...]:
        """Every measure of a final order, as it was asked for."""
        return tuple(name for name in self.routes["retrieval_order"] if self._is_final(name))

    def _is_final(self, measure: str) -> bool:
        return int(measure.partition("@")[2]) in self.config["ks"]

    @property
    def headroom(self) -> float | None:
        """The part of the possible gain that reranking made: 1 is the best order of the same
        candidates. None where retrieval's order leaves nothing to gain, or nobody reranked."""
        before, after, best = (
            self.routes[name][self.headline].mean
            for name in ("retrieval_order", self.final, "ceiling")
        )
        return (after - before) / (best - before) if self.is_reranked and best > before else None


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
        **{route: _means(report.routes.get(route)) for route in ROUTES},
        "delta": _differences(report.delta),
        "llm_delta": _differences(report.llm_delta),
        "headroom": report.headroom,
        "everybody": report.everybody
        and {route: _means(one) for route, one in report.everybody.items()},
        "index_loss": _optional(report.index_loss),
        "ablation": {one.modality: _ablation(one) for one in report.ablations},
        "slices": groups,
        "curve": asdict(report.curve),
        "movement": report.movement
        and asdict(report.movement) | {"bins": dict(report.movement.bins)},
        "ledger": _ledger(report.ledger),
        "retrieval_ledger": _ledger(report.retrieval_ledger),
        "scores": {route: asdict(one) for route, one in report.scores.items()},
        "whole_lists": {route: asdict(one) for route, one in report.whole_lists.items()},
        "index": dict(report.index),
        "intervals": {
            "retrieval": _intervals(report.candidate_recall),
            **{route: _intervals(one) for route, one in report.routes.items()},
        },
        "counts": dict(report.counts),
        "config": dict(report.config),
        "manifest": dict(report.manifest),
        "example": _optional(report.example),
        "explained": [asdict(one) for one in report.explained],
        "behaviors": {one.name: _slice(one) for one in report.behaviors},
    }


def _slice(one: Slice) -> dict[str, Any]:
    facts = asdict(one)
    del facts["group"], facts["name"]
    return facts


def _means(route: Mapping[str, Interval] | None) -> dict[str, float] | None:
    return None if route is None else {name: one.mean for name, one in route.items()}


def _intervals(route: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in route.items()}


def _differences(found: Mapping[str, Difference]) -> dict[str, Any] | None:
    return {name: asdict(one) for name, one in found.items()} or None


def _optional(one: IndexLoss | Example | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one)


def _ledger(one: Ledger | None) -> dict[str, Any] | None:
    if one is None:
        return None
    groups: dict[str, dict[str, Any]] = {}
    for part in one.parts:
        facts = asdict(part)
        groups.setdefault(facts.pop("group"), {})[facts.pop("name")] = facts
    return asdict(one) | {"depths": dict(one.depths), "parts": groups}


def _ablation(one: Ablation) -> dict[str, Any]:
    return {
        **one.rerank,
        "retrieval": dict(one.candidate_recall),
        "retrieval_order": dict(one.retrieval_order),
        "delta": asdict(one.delta) | {"p_value_holm": one.p_value_holm},
        "recall_delta": asdict(one.recall_delta),
    }
