"""Scores of several runs in, means and differences with their intervals out.

All of them share one set of resampled users, so that their intervals can be read beside each
other; a difference is always taken user by user.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from evaluation.protocol import EvaluationConfig
from evaluation.report import Ablation, Difference
from evaluation.runs import Scores
from evaluation.significance import Interval, bootstrap_all, holm, randomization_all


def intervals(
    scores: Mapping[str, Scores], config: EvaluationConfig
) -> dict[str, dict[str, Interval]]:
    """Route -> measure -> mean and interval."""
    flat = {
        f"{name} {key}": values_U
        for name, one in scores.items()
        for key, values_U in one.values.items()
    }
    found = bootstrap_all(flat, samples=config.samples, seed=config.seed, level=config.level)
    return {
        name: {key: found[f"{name} {key}"] for key in one.values} for name, one in scores.items()
    }


def deltas(before: Scores, after: Scores, config: EvaluationConfig) -> dict[str, Difference]:
    """Every measure of the final order: reranked minus retrieval order."""
    return _differences(
        {key: after.values[key] - before.values[key] for key in config.measures}, config
    )


def ablations_of(
    ablated: Mapping[str, tuple[Scores, Scores]],
    *,
    full: tuple[Scores, Scores],
    config: EvaluationConfig,
) -> tuple[Ablation, ...]:
    """What each modality is worth, by name: the full route minus the route without it.

    Args:
        ablated: Modality -> the scores in retrieval order and reranked, without it.
        full: The same two of the full route.
        config: Its headline and its deepest candidate recall are compared.
    """
    headline, deepest = config.headline, f"recall@{max(config.recall_ks)}"
    losses = {
        name: full[1].values[headline] - after.values[headline]
        for name, (_, after) in ablated.items()
    }
    recall_losses = {
        name: full[0].values[deepest] - before.values[deepest]
        for name, (before, _) in ablated.items()
    }
    found, recall_found = _differences(losses, config), _differences(recall_losses, config)
    corrected = holm({name: one.p_value for name, one in found.items()})
    return tuple(
        Ablation(
            modality=name,
            retrieval_order={key: ablated[name][0].mean(key) for key in config.measures},
            rerank={key: ablated[name][1].mean(key) for key in ablated[name][1].values},
            candidate_recall={
                f"recall@{k}": ablated[name][0].mean(f"recall@{k}") for k in config.recall_ks
            },
            delta=found[name],
            p_value_holm=corrected[name],
            recall_delta=recall_found[name],
        )
        for name in sorted(ablated)
    )


def _differences(
    values: Mapping[str, NDArray[np.float64]], config: EvaluationConfig
) -> dict[str, Difference]:
    found = bootstrap_all(values, samples=config.samples, seed=config.seed, level=config.level)
    p_values = randomization_all(values, samples=config.samples, seed=config.seed)
    return {
        name: Difference(mean=one.mean, low=one.low, high=one.high, p_value=p_values[name])
        for name, one in found.items()
    }
