"""A learner that gets better with rows, and one that draws of which rows matter for."""

from collections.abc import Sequence

import numpy as np
import pytest

from evaluation.few_shot import few_shot
from evaluation.sampled import Score, ShortList
from retrieval.candidates import Query

LISTS = [
    ShortList(query=Query(user_id=f"u{n}"), truth=f"a{n}", negatives=(f"b{n}",)) for n in range(200)
]


def fit(pairs: Sequence[int], seed: int) -> Score:
    """Knows more the more rows it saw, and something else with other rows."""
    rng = np.random.default_rng([seed, *pairs])
    skill = np.sqrt(len(pairs)) / 4

    def score(query: Query, item_ids: Sequence[str]) -> dict[str, list[float]]:
        return {"own": [skill * (one[0] == "a") + float(rng.normal()) for one in item_ids]}

    return score


def test_more_rows_help_and_popularity_needs_none() -> None:
    found = few_shot(fit, LISTS, popularity={"b0": 1.0}, pool_size=300)
    means = [found[k]["own"].mean for k in (16, 64, 256)]
    assert means == sorted(means)
    assert means[2] > 0.9
    assert all(len(found[k]["own"].values) == 5 for k in found)
    for k in found:
        assert found[k]["own"].spread > 0
        assert found[k]["popularity"].spread == pytest.approx(0, abs=1e-12)
        assert found[k]["popularity"].mean == pytest.approx(0.4975)


def test_equal_seeds_draw_equal_rows_and_each_draw_its_own() -> None:
    seen: list[tuple[int, ...]] = []

    def noted(pairs: Sequence[int], seed: int) -> Score:
        seen.append(tuple(pairs))
        return fit(pairs, seed)

    for _ in range(2):
        few_shot(noted, LISTS[:5], popularity={}, pool_size=40, ks=(16,), draws=6)
    assert seen[:6] == seen[6:]
    assert len(set(seen)) == 6
    assert {len(set(pairs)) for pairs in seen} == {8}


def test_a_k_that_the_pool_cannot_fill_is_left_out() -> None:
    assert list(few_shot(fit, LISTS[:5], popularity={}, pool_size=40)) == [16, 64]
    with pytest.raises(ValueError, match="7 pairs to train on, and the smallest K of 16"):
        few_shot(fit, LISTS[:5], popularity={}, pool_size=7)


def test_one_draw_says_nothing_and_odd_rows_make_no_pairs() -> None:
    for wrong in ({"draws": 1}, {"ks": (15,)}):
        with pytest.raises(ValueError, match="even K and at least 2 draws"):
            few_shot(fit, LISTS[:5], popularity={}, pool_size=40, **wrong)  # type: ignore[arg-type]
