"""Judgements and a route in, a report out: retrieval alone, reranked, and against popularity.

Every user is ranked over the whole catalog: negatives are never sampled, since sampled metrics do
not even keep the order of two systems (Krichene and Rendle, KDD 2020). The candidates are
retrieved once and measured twice, in retrieval's order and reranked, so that the difference is
the reranker's alone. All intervals share one set of resampled users.
"""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.comparison import ablations_of, deltas, intervals
from evaluation.example import Example
from evaluation.judgements import Judgement
from evaluation.movement import movement
from evaluation.protocol import EvaluationConfig
from evaluation.report import RecallCurve, Report
from evaluation.routes import OnProgress, Rerank, Retrieve, Route, Traveled, travel
from evaluation.runs import Run, Scores, ceiling_run, measure, popularity_run
from evaluation.slices import ItemFacts, Slice, UserFacts, slices
from retrieval.candidates import Query

LIBRARIES = ("sommelier", "numpy", "torch", "transformers", "peft", "faiss-cpu", "feast", "duckdb")
CURVE_KS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 150, 200, 300, 500, 1000)


def evaluate(
    judgements: Sequence[Judgement],
    *,
    retrieve: Retrieve,
    rerank: Rerank,
    popularity: Sequence[str],
    seen: Mapping[str, frozenset[str]],
    ablations: Mapping[str, Route] | None = None,
    queries: Sequence[Query] | None = None,
    config: EvaluationConfig | None = None,
    counts: Mapping[str, int] | None = None,
    manifest: Mapping[str, Any] | None = None,
    example: Example | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Send every judged user along the route, and along each ablated one, and measure.

    Args:
        judgements: Who is judged by what, in any order; one for each user. Their moments may
            differ, as a warm-up makes them.
        retrieve: A batch of queries -> their candidates, best first, at least
            `config.num_candidates` each where there are so many.
        rerank: One query and its candidates -> every candidate exactly once.
        popularity: The items with any event before the cut, most popular first. An item that is
            not in it is cold.
        seen: What each judged user met before being asked (`evaluation.history.seen_before`);
            popularity leaves it out, and its size is the length of the user's history.
        ablations: Modality -> the same route without it in retrieval and in fusion.
        queries: Aligned to `judgements`; None asks for each user as of the judgement's time.
        counts, manifest: Further facts to report, such as `Split.counts` and the generation's id.
            Where users are warmed up give the manifest its `cut`, which otherwise is the earliest
            moment at which anybody is asked.
        on_progress: Called after every user.

    Raises:
        ValueError: nobody is judged, a user is judged twice, queries of other users, or a route
            that breaks its contract.
    """
    config = config or EvaluationConfig()
    report_progress = on_progress or _say_nothing
    asked = _queries(judgements, queries)

    def go(name: str, route: Route) -> Traveled:
        return travel(
            asked,
            route,
            name=name,
            limit=config.num_candidates,
            batch_size=config.batch_size,
            on_progress=report_progress,
        )

    full = go("full", (retrieve, rerank))
    ablated = {name: go(f"without {name}", route) for name, route in (ablations or {}).items()}
    return _report(
        judgements,
        full,
        ablated,
        popularity=popularity,
        seen=seen,
        config=config,
        counts=counts or {},
        manifest=manifest or {},
        example=example,
    )


def _report(
    judgements: Sequence[Judgement],
    full: Traveled,
    ablated: Mapping[str, Traveled],
    *,
    popularity: Sequence[str],
    seen: Mapping[str, frozenset[str]],
    config: EvaluationConfig,
    counts: Mapping[str, int],
    manifest: Mapping[str, Any],
    example: Example | None,
) -> Report:
    popular = popularity_run(popularity, judgements, seen, limit=config.num_candidates)
    routes = {
        "popularity": popular,
        "retrieval_order": full.retrieved,
        "calibrated": full.calibrated,
        "rerank": full.reranked,
        "ceiling": ceiling_run(full.retrieved, judgements),
    }
    scores = {name: _measured(run, judgements, config) for name, run in routes.items()}
    before, after = scores["retrieval_order"], scores["rerank"]
    means = intervals(scores, config)
    change_U = after.values[config.headline] - before.values[config.headline]
    return Report(
        headline=config.headline,
        routes=means,
        candidate_recall={
            f"recall@{k}": means["retrieval_order"][f"recall@{k}"] for k in config.recall_ks
        },
        delta=deltas(before, after, config),
        llm_delta=deltas(scores["calibrated"], after, config),
        ablations=ablations_of(
            {
                name: (
                    _measured(one.retrieved, judgements, config),
                    _measured(one.reranked, judgements, config),
                )
                for name, one in ablated.items()
            },
            full=(before, after),
            config=config,
        ),
        slices=_slices(judgements, full, popularity, seen, config),
        curve=_curve(full.retrieved, popular, judgements, config),
        movement=movement(full.retrieved, full.reranked, judgements, change_U),
        counts=_counts(judgements, full, popularity, seen) | dict(counts),
        config=asdict(config),
        manifest=_manifest(judgements, full, ablated) | dict(manifest),
        example=example,
    )


def _slices(
    judgements: Sequence[Judgement],
    full: Traveled,
    popularity: Sequence[str],
    seen: Mapping[str, frozenset[str]],
    config: EvaluationConfig,
) -> tuple[Slice, ...]:
    return slices(
        full.retrieved,
        full.reranked,
        judgements,
        items=ItemFacts.of(popularity=popularity),
        users=UserFacts(history_lengths={user_id: len(met) for user_id, met in seen.items()}),
        k=config.headline_k,
        samples=config.samples,
        seed=config.seed,
        level=config.level,
    )


def _say_nothing(name: str, done: int, total: int) -> None:
    """The progress of an evaluation that nobody watches."""


def _queries(judgements: Sequence[Judgement], queries: Sequence[Query] | None) -> Sequence[Query]:
    if not judgements:
        raise ValueError(
            "nobody is judged: no user with a history chose a new item after the cut; "
            "move the cut to an earlier time or ask for less history"
        )
    users = [judgement.user_id for judgement in judgements]
    if len(set(users)) != len(users):
        raise ValueError("a user is judged twice")
    if queries is None:
        return [Query(user_id=one.user_id, as_of=one.as_of) for one in judgements]
    if [query.user_id for query in queries] != users:
        raise ValueError("queries and judgements must name the same users in the same order")
    return queries


def _measured(run: Run, judgements: Sequence[Judgement], config: EvaluationConfig) -> Scores:
    return measure(run, judgements, ks=config.ks, recall_ks=config.recall_ks)


def _curve(
    retrieved: Run, popular: Run, judgements: Sequence[Judgement], config: EvaluationConfig
) -> RecallCurve:
    ks = [k for k in CURVE_KS if k < config.num_candidates] + [config.num_candidates]
    found, guessed = (
        _recall_at_every_k(run, judgements, ks[-1])[ks].tolist() for run in (retrieved, popular)
    )
    return RecallCurve(ks=tuple(ks), retrieval=tuple(found), popularity=tuple(guessed))


def _recall_at_every_k(
    run: Run, judgements: Sequence[Judgement], limit: int
) -> NDArray[np.float64]:
    """Mean recall by k, from 0 to `limit`; one pass for all k."""
    gains = np.zeros(limit + 1)
    for judgement, ranked in zip(judgements, run.aligned(judgements), strict=True):
        for rank, item_id in enumerate(ranked[:limit], start=1):
            if item_id in judgement.item_ids:
                gains[rank] += 1 / len(judgement.item_ids)
    return np.cumsum(gains) / len(judgements)


def _counts(
    judgements: Sequence[Judgement],
    full: Traveled,
    popularity: Sequence[str],
    seen: Mapping[str, frozenset[str]],
) -> dict[str, int]:
    lists = full.retrieved.rankings
    return {
        "num_users_judged": len(judgements),
        "num_items_judged": sum(len(one.item_ids) for one in judgements),
        "num_distinct_items_judged": len(frozenset().union(*(one.item_ids for one in judgements))),
        "num_warm_items": len(popularity),
        "num_candidates": full.num_candidates,
        "num_users_without_candidates": sum(not ranked for ranked in lists.values()),
        "num_seen_candidates": sum(
            item_id in seen.get(user_id, frozenset())
            for user_id, ranked in lists.items()
            for item_id in ranked
        ),
    }


def _manifest(
    judgements: Sequence[Judgement], full: Traveled, ablated: Mapping[str, Traveled]
) -> dict[str, Any]:
    durations = {"retrieve_s": full.retrieve_s, "rerank_s": full.rerank_s}
    for name, one in ablated.items():
        durations[f"without_{name}_s"] = one.retrieve_s + one.rerank_s
    return {
        "generation_id": ", ".join(sorted(full.generation_ids)),
        "cut": min(judgement.as_of for judgement in judgements).isoformat(),
        "durations": {name: round(seconds, 3) for name, seconds in durations.items()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    """Of the libraries that are installed here; nothing is imported for it."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
