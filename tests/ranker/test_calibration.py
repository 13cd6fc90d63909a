"""Scores whose truth is known: the weight, the slope and the intercept are found again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.scored import calibration
from ranker.calibration import FORMAT, MIN_LISTS, Calibrator, CalibratorError, fit
from ranker.platt import platt, sigmoid

Lists = tuple[
    NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]
]  # priors, logits, which were chosen, the lists' numbers
CALIBRATOR = Calibrator(
    logit_weight=0.7,
    slope=1.3,
    intercept=-4.1,
    gain=0.02,
    num_lists=250,
    behaviors={"view": (1.1, -2.0), "buy": (0.9, -6.0)},
)


def drawn(weight: float, *, count: int = 400, size: int = 20, seed: int = 0) -> Lists:
    """Of each list one is chosen, with the chances softmax(prior + weight * logit)."""
    random = np.random.default_rng(seed)
    priors = random.normal(size=(count, size))
    logits = 2 * random.normal(size=(count, size))
    chosen = (priors + weight * logits + random.gumbel(size=(count, size))).argmax(axis=1)
    is_chosen = np.arange(size) == chosen[:, None]
    owners = np.repeat(np.arange(count), size)
    return priors.ravel(), logits.ravel(), is_chosen.ravel(), owners


def fitted(lists: Lists) -> Calibrator:
    found = fit(*lists)
    assert found is not None
    return found


@pytest.mark.parametrize("weight", [0.2, 0.6, 1.0])
def test_the_weight_that_choices_were_drawn_with_is_found(weight: float) -> None:
    found = fitted(drawn(weight))
    assert found.logit_weight == pytest.approx(weight, abs=0.1)
    assert found.gain > 0
    assert found.num_lists == 400


def test_the_weight_is_the_optimum_of_the_conditional_logit() -> None:
    priors, logits, is_chosen, owners = drawn(0.5, count=60)
    best = fitted((priors, logits, is_chosen, owners)).logit_weight

    def surprise(weight: float) -> float:
        scores = (priors + weight * logits).reshape(60, -1)
        total = np.log(np.exp(scores).sum(axis=1))
        return float((total - scores[is_chosen.reshape(60, -1)]).mean())

    assert surprise(best) < min(surprise(best - 0.05), surprise(best + 0.05))


@pytest.mark.parametrize("weight", [-1.0, -0.2])
def test_an_llm_that_only_harms_is_left_out(weight: float) -> None:
    found = fitted(drawn(weight))
    assert found.logit_weight == 0
    assert found.gain <= 0


def test_a_weight_that_gains_only_where_it_was_fitted_is_left_out() -> None:
    zeros = [fitted(drawn(0.0, count=30, seed=seed)).logit_weight == 0 for seed in range(20)]
    assert sum(zeros) >= 14, "an LLM that says nothing is left out most of the time"


def test_without_a_prior_the_llm_is_all_there_is() -> None:
    _, logits, is_chosen, owners = drawn(-1.0)
    found = fitted((np.zeros_like(logits), logits, is_chosen, owners))
    assert found.logit_weight == 1
    assert found.slope == 0, "its order is wrong, and no probability follows it"


def test_an_llm_that_says_the_same_of_all_has_no_weight() -> None:
    priors, logits, is_chosen, owners = drawn(1.0)
    assert fitted((priors, np.full_like(logits, 3.0), is_chosen, owners)).logit_weight == 0


def test_an_llm_that_parts_everything_gets_a_finite_weight() -> None:
    priors, _, is_chosen, owners = drawn(0.0, count=50)
    found = fitted((priors, np.where(is_chosen, 1.0, -1.0), is_chosen, owners))
    assert 1 < found.logit_weight < 100
    assert 0 < found.slope < 100


def mixed() -> tuple[Lists, dict[int, str | None]]:
    """Lists of 40, of which views choose some ten, purchases one; any choice has both."""
    random = np.random.default_rng(5)
    count, size = 300, 40
    scores = random.normal(size=(count, size))
    kinds: tuple[str | None, ...] = (None, "buy", "view")
    levels = np.array([-0.9, -4.0, -1.0])[np.arange(count) % 3]
    is_chosen = random.random((count, size)) < sigmoid(0.8 * scores + levels[:, None])
    owners = np.repeat(np.arange(count), size)
    lists = (scores.ravel(), np.zeros(count * size), is_chosen.ravel(), owners)
    return lists, {n: kinds[n % 3] for n in range(count)}


def test_each_behavior_has_probabilities_of_its_own() -> None:
    lists, behaviors = mixed()
    found = fit(*lists, behaviors=behaviors)
    assert found is not None
    assert sorted(found.behaviors) == ["buy", "view"]
    scores, _, is_chosen, owners = lists
    together = fitted(lists)
    assert together.behaviors == {}
    for behavior in ("buy", "view", None):
        asked = np.array([behaviors[owner] == behavior for owner in owners.tolist()])
        asked &= np.isin(owners, owners[is_chosen])  # retrieval found something
        chances = found.probabilities(scores[asked], behavior=behavior)
        assert calibration(chances, is_chosen[asked]).ece < 0.03
        coarse = calibration(together.probabilities(scores[asked]), is_chosen[asked])
        assert coarse.ece > 0.04
    assert found.probabilities(scores, behavior="rent").tolist() == (
        found.probabilities(scores).tolist()
    )


def test_a_behavior_that_few_lists_asked_about_is_answered_as_any() -> None:
    lists, behaviors = mixed()
    few = {
        n: "rent" if behaviors[n] == "buy" and n > 3 * MIN_LISTS else behaviors[n]
        for n in behaviors
    }
    enough = 3 * MIN_LISTS
    few = {n: None if one == "buy" and n > enough - 3 else one for n, one in behaviors.items()}
    found = fit(*lists, behaviors=few)
    assert found is not None
    assert sorted(found.behaviors) == ["view"]


def test_the_order_of_rows_and_the_names_of_lists_say_nothing() -> None:
    lists = drawn(0.5, count=40)
    shuffled = np.random.default_rng(1).permutation(len(lists[0]))
    priors, logits, is_chosen, owners = (one[shuffled] for one in lists)
    found, other = fitted(lists), fitted((priors, logits, is_chosen, owners * 7 - 100))
    assert other.logit_weight == pytest.approx(found.logit_weight, abs=1e-9)
    assert (other.slope, other.intercept) == pytest.approx((found.slope, found.intercept))
    assert fitted(lists) == found


def test_lists_of_one_kind_say_nothing_and_too_few_are_not_fitted() -> None:
    priors, logits, is_chosen, owners = drawn(0.5, count=MIN_LISTS)
    assert fit(priors, logits, is_chosen, owners) is not None
    all_chosen = np.where(owners == 3, True, is_chosen)
    assert fit(priors, logits, all_chosen, owners) is None
    assert fit(priors, logits, np.where(owners == 3, False, is_chosen), owners) is None
    assert fit(priors[:0], logits[:0], is_chosen[:0], owners[:0]) is None


def test_probabilities_are_calibrated_where_scores_were_not() -> None:
    random = np.random.default_rng(3)
    scores = 3 * random.normal(size=60_000)
    truth = 1 / (1 + np.exp(-(0.4 * scores - 2.5)))
    is_chosen = random.random(len(scores)) < truth
    slope, intercept = platt(scores, is_chosen)
    assert (slope, intercept) == pytest.approx((0.4, -2.5), abs=0.05)

    calibrated = Calibrator(slope=slope, intercept=intercept)
    fresh = random.random(len(scores)) < truth  # other choices than those it was fitted on
    before = calibration(1 / (1 + np.exp(-scores)), fresh)
    after = calibration(calibrated.probabilities(scores), fresh)
    assert before.ece > 0.2
    assert after.ece < 0.01
    assert after.brier < before.brier


def test_calibrating_lists_brings_the_error_on_other_lists_down() -> None:
    found = fitted(drawn(0.5, seed=1))
    priors, logits, is_chosen, _ = drawn(0.5, seed=2)
    raw = 1 / (1 + np.exp(-(priors + logits)))
    scores = found.scores(priors, logits)
    assert calibration(raw, is_chosen).ece > 0.3
    assert calibration(found.probabilities(scores), is_chosen).ece < 0.02


def test_probabilities_keep_the_order_and_bear_any_score() -> None:
    scores = np.array([-1e30, -1e4, -3.0, 0.0, 2.0, 1e4, 1e30], dtype=np.float32)
    chances = CALIBRATOR.probabilities(scores)
    assert (np.diff(chances) >= 0).all()
    assert (chances[0], chances[-1]) == (0, 1)
    assert chances[3] == pytest.approx(1 / (1 + np.exp(4.1)))


def test_what_is_saved_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    CALIBRATOR.save(path)
    assert Calibrator.load(path) == CALIBRATOR
    assert Calibrator.load(path).calibrator_id == CALIBRATOR.calibrator_id
    assert [one.name for one in tmp_path.iterdir()] == ["calibrator.json"]


def test_the_id_changes_with_what_calibrates_and_with_nothing_else() -> None:
    same = replace(CALIBRATOR, gain=0.5, num_lists=3)
    assert same.calibrator_id == CALIBRATOR.calibrator_id
    for name in ("logit_weight", "slope", "intercept"):
        other = replace(CALIBRATOR, **{name: getattr(CALIBRATOR, name) + 1e-12})
        assert other.calibrator_id != CALIBRATOR.calibrator_id
    assert replace(CALIBRATOR, behaviors={}).calibrator_id != CALIBRATOR.calibrator_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": FORMAT + 1}, "another format: run `sommelier train`"),
        ({"slope": "steep"}, "is damaged .*steep.*run `sommelier train`"),
        ({"slope": None}, "is damaged"),
        ({"slope": -1.0}, "is damaged .*0 or more"),
        ({"intercept": float("nan")}, "is damaged .*finite"),
        ({"further": 1.0}, "is damaged .*further"),
        ({"behaviors": {"buy": [1.0]}}, "is damaged"),
        ({"behaviors": {"buy": [-1.0, 0.0]}}, "is damaged .*0 or more"),
    ],
)
def test_a_damaged_file_is_refused(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    CALIBRATOR.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CalibratorError, match=reason):
        Calibrator.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\udcff"])
def test_what_is_no_calibrator_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    with pytest.raises(CalibratorError, match="is missing: run `sommelier train`"):
        Calibrator.load(path)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CalibratorError, match="is damaged"):
        Calibrator.load(path)


def test_what_is_not_aligned_or_not_finite_is_refused() -> None:
    priors, logits, is_chosen, owners = drawn(0.5, count=30)
    with pytest.raises(ValueError, match="four numbers of each candidate"):
        fit(priors[:-1], logits, is_chosen, owners)
    with pytest.raises(ValueError, match="must be finite"):
        fit(priors, np.where(owners == 2, np.nan, logits), is_chosen, owners)
