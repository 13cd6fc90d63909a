"""Each name says what it stands for, and a sampled one never passes for full ranking."""

import json

import numpy as np
import pytest

from evaluation.few_shot import Shots
from evaluation.protocols import (
    FULL,
    PROTOCOLS,
    SAMPLED,
    Outcome,
    intervals,
    msr_measures,
    named,
    of_valid,
    tmf_measures,
)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no protocol 'hr': choose full, msr/1\+20, tmf/20"):
        named("hr")
    with pytest.raises(ValueError, match=f"{FULL} is what"):
        named(FULL)


def test_sampled_protocols_say_that_they_are() -> None:
    for one in PROTOCOLS.values():
        assert (SAMPLED in one.remarks) == (one.num_negatives > 0)


def test_msr_measures_at_five() -> None:
    scores_UK = np.array([[0.0, *range(-20, 0)], [0.0, *range(1, 21)]])
    found = {name: values.tolist() for name, values in msr_measures(scores_UK).items()}
    assert found == {"auc": [1, 0], "hr@5": [1, 0], "mrr@5": [1, 0], "ndcg@5": [1, 0]}


def test_an_invalid_answer_is_wrong_but_does_not_count_among_the_valid() -> None:
    nan = float("nan")
    measures = tmf_measures(np.array([[2.0, 1.0], [nan, nan], [1.0, 2.0]]))
    assert measures["hr@1"].tolist() == [1, 0, 0]
    assert measures["valid_ratio"].tolist() == [1, 0, 1]
    assert of_valid(measures) == 0.5
    assert of_valid(tmf_measures(np.array([[nan, nan]]))) == 0


def test_what_was_found_is_strict_json() -> None:
    measures = {"own": msr_measures(np.array([[1.0, 0.0], [0.0, 1.0]]))}
    found = Outcome(
        protocol=named("msr/1+20"),
        parts={
            "uniform": intervals(measures, samples=100, seed=0, level=0.95),
            "K = 16": {"own": {"auc": Shots(values=(0.5, 0.7))}},
        },
        facts={"num_users": 2},
    )
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["parts"]["uniform"]["own"]["auc"] == {"mean": 0.5, "low": 0.0, "high": 1.0}
    shots = plain["parts"]["K = 16"]["own"]["auc"]
    assert (shots["mean"], shots["least"], shots["most"]) == (0.6, 0.5, 0.7)
    assert plain["protocol"] == "msr/1+20"
