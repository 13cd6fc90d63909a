"""Scores of several runs in, means and differences with their intervals out.

All of them share one set of resampled users, so that their intervals can be read beside each
other; a difference is always taken user by user.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.protocol import EvaluationConfig
from evaluation.report import Ablation, Report
from evaluation.runs import Scores
from evaluation.significance import (
    Difference,
    Interval,
    bootstrap_all,
    effect,
    holm,
    randomization_all,
)


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
    return differences(
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
    found, recall_found = differences(losses, config), differences(recall_losses, config)
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


def differences(
    values: Mapping[str, NDArray[np.float64]], config: EvaluationConfig
) -> dict[str, Difference]:
    """Differences of each user in, their means with interval, p-value and effect size out."""
    found = bootstrap_all(values, samples=config.samples, seed=config.seed, level=config.level)
    p_values = randomization_all(values, samples=config.samples, seed=config.seed)
    return {
        name: Difference(
            mean=one.mean,
            low=one.low,
            high=one.high,
            p_value=p_values[name],
            effect=effect(values[name]),
        )
        for name, one in found.items()
    }


def holm_over(report: Report) -> Report:
    """The report with the p-values of every comparison in it corrected for all of them together:
    each measure's change, what the LLM adds, what each modality is worth, and what the index
    loses."""
    loss = report.index_loss
    delta, llm_delta, worth, recall_worth, losses = holm_across(
        report.delta,
        report.llm_delta,
        {one.modality: one.delta for one in report.ablations},
        {one.modality: one.recall_delta for one in report.ablations},
        {} if loss is None else {"": loss.loss},
    )
    ablations: list[Ablation] = []
    for one in report.ablations:
        found = worth[one.modality]
        assert found.p_value_holm is not None, "holm_across sets it"
        ablations.append(
            replace(
                one,
                delta=found,
                p_value_holm=found.p_value_holm,
                recall_delta=recall_worth[one.modality],
            )
        )
    return replace(
        report,
        delta=delta,
        llm_delta=llm_delta,
        ablations=tuple(ablations),
        index_loss=None if loss is None else replace(loss, loss=losses[""]),
    )


def holm_across(*families: Mapping[str, Difference]) -> tuple[dict[str, Difference], ...]:
    """The same differences with p-values corrected for the number of all of them together.

    Whoever reads a report looks at every comparison in it, so the chance of a false finding is
    held over all of them at once, not table by table.
    """
    p_values = {
        f"{place} {name}": found.p_value
        for place, family in enumerate(families)
        for name, found in family.items()
    }
    corrected = holm(p_values)
    return tuple(
        {
            name: replace(found, p_value_holm=corrected[f"{place} {name}"])
            for name, found in family.items()
        }
        for place, family in enumerate(families)
    )
