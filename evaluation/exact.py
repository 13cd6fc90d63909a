"""Where an exact search would have put the right answers in, what the index lost and what any K
could find out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.comparison import differences
from evaluation.hits import hits
from evaluation.judgements import Judgement
from evaluation.protocol import EvaluationConfig
from evaluation.report import IndexLoss, RecallCurve
from evaluation.routes import Exact, Traveled
from evaluation.runs import Run
from evaluation.significance import bootstrap, bootstrap_all

CURVE_KS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 150, 200, 300, 500, 700, 1000)
BEYOND = (1.5, 2, 3, 5, 7, 10)  # of each power of ten, above the last of these
Values = NDArray[np.float64]


def recall_curve(
    retrieved: Run,
    popular: Run,
    exact: Exact | None,
    judgements: Sequence[Judgement],
    *,
    limit: int,
    num_items: int,
) -> RecallCurve:
    """Mean recall by the number of candidates, to `limit`; of exact search to `num_items`."""
    ks = [k for k in CURVE_KS if k < limit] + [limit]
    found, guessed = (
        _recall_at_every_k(run, judgements, limit)[ks].tolist() for run in (retrieved, popular)
    )
    curve = RecallCurve(ks=tuple(ks), retrieval=tuple(found), popularity=tuple(guessed))
    if exact is None:
        return curve
    ranks, weights = _weighted_ranks(exact, judgements)
    last = max(num_items, int(ranks.max(initial=1)))
    exact_ks = [k for k in (*CURVE_KS, *_beyond(last)) if k < last] + [last]
    every = np.cumsum(np.bincount(ranks, weights=weights, minlength=last + 1)) / len(judgements)
    return RecallCurve(
        ks=curve.ks,
        retrieval=curve.retrieval,
        popularity=curve.popularity,
        exact_ks=tuple(exact_ks),
        exact=tuple(every[exact_ks].tolist()),
        infinity=float(every[-1]),
    )


def index_loss(
    full: Traveled, judgements: Sequence[Judgement], config: EvaluationConfig
) -> IndexLoss | None:
    """None where nobody's list was compared, or exact search was not asked."""
    exact, limit = full.exact, config.num_candidates
    if exact is None or not exact.overlap:
        return None
    table = hits(full.retrieved.aligned(judgements), judgements, depth=limit)
    found_U = table.values({"recall": (limit,)})[f"recall@{limit}"]
    exact_U = np.array([_exact_recall(exact, one, limit) for one in judgements])
    chances = {"samples": config.samples, "seed": config.seed}
    means = bootstrap_all({"index": found_U, "exact": exact_U}, level=config.level, **chances)
    return IndexLoss(
        limit=limit,
        num_users_compared=len(exact.overlap),
        overlap=bootstrap(np.array(list(exact.overlap.values())), level=config.level, **chances),
        recall=means["index"],
        exact_recall=means["exact"],
        loss=differences({"loss": exact_U - found_U}, config)["loss"],
    )


def _exact_recall(exact: Exact, judgement: Judgement, limit: int) -> float:
    ranks = exact.ranks.get(judgement.user_id, {})
    return sum(rank <= limit for rank in ranks.values()) / len(judgement.item_ids)


def _recall_at_every_k(run: Run, judgements: Sequence[Judgement], limit: int) -> Values:
    """Mean recall by k, from 0 to `limit`; one pass for all k."""
    table = hits(run.aligned(judgements), judgements, depth=limit)
    found = np.zeros(limit + 1)
    depth = table.is_hit_UK.shape[1]
    found[1 : depth + 1] = (1 / table.num_relevant_U) @ table.is_hit_UK / len(judgements)
    return np.cumsum(found)


def _weighted_ranks(
    exact: Exact, judgements: Sequence[Judgement]
) -> tuple[NDArray[np.int64], Values]:
    """Every exact rank of a judged item, with its share of its user's truth."""
    pairs = [
        (rank, 1 / len(one.item_ids))
        for one in judgements
        for rank in exact.ranks.get(one.user_id, {}).values()
    ]
    ranks = np.array([rank for rank, _ in pairs], dtype=np.int64)
    return ranks, np.array([weight for _, weight in pairs], dtype=np.float64)


def _beyond(last: int) -> list[int]:
    """Ks above those of the curve, evenly on a logarithmic axis."""
    found, power = [], CURVE_KS[-1]
    while power < last:
        found += [int(times * power) for times in BEYOND]
        power *= 10
    return found
