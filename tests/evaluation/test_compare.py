"""Two systems, the same users, and a difference that the data supports."""

import json
from dataclasses import replace

import pytest

from evaluation.compare import Incomparable, Side, as_dict, compare
from evaluation.protocol import EvaluationConfig
from evaluation.runs import Run
from evaluation.slices import ItemFacts, UserFacts, parts
from tests.evaluation.small_world import ITEM_IDS

CONFIG = EvaluationConfig(samples=300)


@pytest.fixture(scope="module")
def judgements(world):
    return world.judgements[:120]


@pytest.fixture(scope="module")
def side(world, judgements):
    """Skill of each seed -> a side; a right answer stands first for so many users in a hundred."""

    def make(name, *shares, judged=True):
        runs = tuple(
            Run(
                name=f"{name} {seed}",
                rankings={
                    one.user_id: _ranking(one, is_right=(7 * n + 13 * seed) % 100 < share)
                    for n, one in enumerate(judgements)
                },
            )
            for seed, share in enumerate(shares)
        )
        return Side(name=name, runs=runs, judgements=judgements if judged else None)

    return make


def _ranking(judgement, *, is_right):
    others = [one for one in ITEM_IDS[:110] if one not in judgement.item_ids][:99]
    return [sorted(judgement.item_ids)[0], *others] if is_right else others


def test_the_better_side_is_better_by_as_much_as_it_is(side, judgements):
    found = compare(side("A", 20), side("B", 70), config=CONFIG)
    one = found.measures["mrr@10"]
    assert one.difference.mean == pytest.approx(one.b - one.a)
    assert one.difference.low > 0
    assert one.difference.p_value_holm >= one.difference.p_value
    assert one.difference.effect.share_better == pytest.approx(0.5, abs=0.03)
    assert found.num_users == len(judgements)


def test_a_side_does_not_differ_from_itself(side):
    found = compare(side("A", 40), side("A", 40), config=CONFIG)
    for one in found.measures.values():
        assert one.difference.mean == 0
        assert one.difference.p_value == 1


def test_users_who_differ_are_an_error_unless_the_common_ones_are_asked_for(side, judgements):
    a, b = side("A", 20), side("B", 70)
    b = replace(b, judgements=judgements[10:])
    with pytest.raises(Incomparable, match=r"10 are in the first alone and 0 in .*--common"):
        compare(a, b, config=CONFIG)
    found = compare(a, b, config=CONFIG, takes_common=True)
    assert (found.num_users, found.num_only_a, found.num_only_b) == (110, 10, 0)


def test_users_judged_by_other_choices_are_never_compared(side, judgements):
    other = (replace(judgements[0], item_ids=frozenset({"i599"})), *judgements[1:])
    with pytest.raises(Incomparable, match="by different choices"):
        compare(
            side("A", 20),
            replace(side("B", 70), judgements=other),
            config=CONFIG,
            takes_common=True,
        )


def test_a_run_without_judgements_is_judged_as_the_other_side(side):
    both = compare(side("A", 20), side("B", 70), config=CONFIG)
    one = compare(side("A", 20), side("B", 70, judged=False), config=CONFIG)
    assert one.measures == both.measures
    with pytest.raises(Incomparable, match="neither"):
        compare(side("A", 20, judged=False), side("B", 70, judged=False), config=CONFIG)


def test_users_of_a_run_whom_nobody_judges_are_passed_over(side):
    b = side("B", 70, judged=False)
    (run,) = b.runs
    more = replace(b, runs=(replace(run, rankings=run.rankings | {"stranger": ["i000"]}),))
    found = compare(side("A", 20), more, config=CONFIG)
    assert found.num_only_b == 0


def test_seeds_are_averaged_and_their_spread_is_told(side):
    found = compare(side("A", 20, 24), side("B", 70, 60), config=CONFIG)
    one = found.measures["hr@10"]
    means_a, means_b = found.seed_means["hr@10"]
    assert one.a == pytest.approx(sum(means_a) / 2)
    assert one.over_seeds.mean == pytest.approx(one.difference.mean)
    assert one.over_seeds.spread > 0
    assert list(one.over_seeds.means.values()) == pytest.approx(
        [b - a for a, b in zip(means_a, means_b, strict=True)]
    )


def test_unequal_numbers_of_seeds_have_no_interval_over_seeds(side):
    found = compare(side("A", 20), side("B", 70, 60), config=CONFIG)
    assert found.measures["hr@10"].over_seeds is None
    assert found.num_seeds == (1, 2)


def test_slices_are_compared_on_the_users_of_both(side, world, judgements):
    sliced = parts(
        judgements,
        ItemFacts.of(popularity=world.popularity),
        UserFacts(history_lengths={user: len(met) for user, met in world.seen.items()}),
    )
    found = compare(side("A", 20), side("B", 70), config=CONFIG, parts=sliced)
    assert [(one.group, one.name) for one in found.parts] == [
        (one.group, one.name) for one in sliced
    ]
    assert all(one.compared.difference.p_value_holm is not None for one in found.parts)
    histories = [one.num_users for one in found.parts if one.group == "history"]
    assert sum(histories) == len(judgements)


def test_a_comparison_is_plain_json(side):
    plain = json.loads(json.dumps(as_dict(compare(side("A", 20), side("B", 70), config=CONFIG)),
                                  allow_nan=False))  # fmt: skip
    assert plain["measures"]["ndcg@10"]["difference"]["effect"]["d_z"] > 0
    assert plain["format"] == 1
