"""The prior is the optimum of a conditional logit, and a modality can be taken out of it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from embedders.items import Modality
from ranker.evidence import LIMIT, PENALTY, Evidence, features, without
from retrieval.candidates import Candidate

MODALITIES = (Modality.AUDIO, Modality.GRAPH, Modality.TEXT)
CANDIDATES = [
    Candidate(
        item_id="a",
        score=1.5,
        rank=1,
        evidence={Modality.TEXT: 0.5, Modality.AUDIO: 0.25},
        support={Modality.TEXT: 0.125, Modality.AUDIO: 0.0625},
    ),
    Candidate(item_id="b", score=0.75, rank=2, evidence={Modality.GRAPH: -0.5}),
    Candidate(item_id="c", score=0.25, rank=3),
]
Lists = list[NDArray[np.float32]]
Chosen = list[NDArray[np.bool_]]


def planted(num_lists: int = 400, slopes: tuple[float, ...] = (1.5, -1.0, 0, 0.5)) -> tuple:
    """Lists of four features, from which one is chosen by known slopes."""
    random = np.random.default_rng(2)
    lists, chosen = [], []
    for _ in range(num_lists):
        one = random.normal(size=(int(random.integers(3, 9)), 4)).astype(np.float32)
        utility = one @ np.array(slopes) + random.gumbel(size=len(one))
        lists.append(one)
        chosen.append(np.arange(len(one)) == utility.argmax())
    return lists, chosen


def optimum(lists: Lists, chosen: Chosen) -> NDArray[np.float64]:
    """The same logit, in float64 and by another optimizer."""
    everything = np.concatenate(lists).astype(np.float64)
    deviation = everything.std(axis=0, ddof=1)
    deviation[deviation <= 1e-6] = 1
    scaled = ((everything - everything.mean(axis=0)) / deviation).clip(-LIMIT, LIMIT)
    starts = np.cumsum([0, *map(len, lists[:-1])])
    is_chosen = np.concatenate(chosen)

    def loss(slopes: NDArray[np.float64]) -> float:
        utility = scaled @ slopes
        sums = np.logaddexp.reduceat(utility, starts)
        surprise = (np.repeat(sums, [len(one) for one in lists]) - utility)[is_chosen].mean()
        return float(surprise + PENALTY * (slopes**2).sum())

    return np.asarray(minimize(loss, np.zeros(lists[0].shape[1]), tol=1e-9).x)


def test_a_row_holds_cosines_supports_presences_and_the_score() -> None:
    expected = [
        [0.25, 0, 0.5, 0.0625, 0, 0.125, 1, 0, 1, 1.5],
        [0, -0.5, 0, 0, 0, 0, 0, 1, 0, 0.75],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0.25],
    ]
    np.testing.assert_array_equal(features(CANDIDATES, MODALITIES), np.float32(expected))


def test_no_candidate_makes_no_row() -> None:
    assert features([], MODALITIES).shape == (0, 10)


@pytest.mark.parametrize("dropped", MODALITIES)
def test_without_zeroes_the_dropped_modality_and_takes_its_part_off_the_score(
    dropped: Modality,
) -> None:
    weights = {Modality.AUDIO: 2.0, Modality.TEXT: 0.5}  # graph: 1
    whole = features(CANDIDATES, MODALITIES)
    found = without(whole, MODALITIES, [dropped], weights)
    place = MODALITIES.index(dropped)
    own = [place, place + 3, place + 6]
    others = [column for column in range(9) if column not in own]
    assert not found[:, own].any()
    np.testing.assert_array_equal(found[:, others], whole[:, others])
    taken = np.float32(weights.get(dropped, 1.0)) * whole[:, place]
    np.testing.assert_array_equal(found[:, -1], whole[:, -1] - taken)


def test_without_leaves_the_given_features_as_they_were() -> None:
    whole = features(CANDIDATES, MODALITIES)
    nothing = without(whole, MODALITIES, MODALITIES, {})
    assert not nothing[:, :-1].any()
    np.testing.assert_array_equal(nothing[:, -1], np.float32([0.75, 1.25, 0.25]))
    np.testing.assert_array_equal(whole, features(CANDIDATES, MODALITIES))


def test_of_a_single_modality_the_score_stays() -> None:
    found = without(features(CANDIDATES, [Modality.TEXT]), [Modality.TEXT], [Modality.TEXT], {})
    np.testing.assert_array_equal(
        found, np.float32([[0, 0, 0, 1], [0, 0, 0, 0.75], [0, 0, 0, 0.25]])
    )


def test_an_unfitted_prior_is_the_score() -> None:
    evidence = Evidence(3, hidden_size=8)
    tokens, priors = evidence(torch.from_numpy(features(CANDIDATES, MODALITIES)))
    assert tokens.shape == (3, 8)
    assert priors.tolist() == [1.5, 0.75, 0.25]


def test_the_fitted_prior_is_the_optimum_of_the_conditional_logit() -> None:
    lists, chosen = planted()
    evidence = Evidence(1, hidden_size=8)
    evidence.fit(lists, chosen)
    np.testing.assert_allclose(evidence.slopes_F.numpy(), optimum(lists, chosen), atol=2e-3)
    deviation = np.concatenate(lists).std(axis=0)
    np.testing.assert_allclose(
        evidence.slopes_F.numpy() / deviation, [1.5, -1.0, 0, 0.5], atol=0.15
    )


def test_with_several_chosen_in_a_list_it_is_the_optimum_too() -> None:
    lists, chosen = planted(100)
    for one in chosen:
        one[0] = True
    evidence = Evidence(1, hidden_size=8)
    evidence.fit(lists, chosen)
    np.testing.assert_allclose(evidence.slopes_F.numpy(), optimum(lists, chosen), atol=2e-3)


def test_choices_that_one_feature_tells_apart_give_finite_slopes() -> None:
    lists, chosen = planted(200, slopes=(1e4, 0, 0, 0))
    evidence = Evidence(1, hidden_size=8)
    evidence.fit(lists, chosen)
    assert evidence.slopes_F.isfinite().all()
    np.testing.assert_allclose(evidence.slopes_F.numpy(), optimum(lists, chosen), atol=0.05)


def test_a_feature_that_never_changes_counts_nothing() -> None:
    lists, chosen = planted(50)
    for one in lists:
        one[:, 2] = 1
    evidence = Evidence(1, hidden_size=8)
    evidence.fit(lists, chosen)
    moved = torch.from_numpy(lists[0]).clone()
    _, before = evidence(moved)
    assert evidence.deviation_F[2] == 1
    assert abs(float(evidence.slopes_F[2])) < 1e-3
    assert before.isfinite().all()


def test_a_feature_far_outside_is_clipped() -> None:
    lists, chosen = planted(50)
    evidence = Evidence(1, hidden_size=8)
    evidence.fit(lists, chosen)
    far = torch.full((1, 4), 1e6)
    torch.testing.assert_close(evidence(far)[1], evidence(far * 10)[1])


def test_the_prior_is_not_trained_and_the_token_is() -> None:
    evidence = Evidence(1, hidden_size=8)
    names = {name for name, one in evidence.named_parameters() if one.requires_grad}
    assert names == {"encode.0.weight", "encode.0.bias", "encode.2.weight", "encode.2.bias"}
    assert {"mean_F", "deviation_F", "slopes_F"} <= evidence.state_dict().keys()


def test_evidence_that_is_not_read_says_nothing_and_is_not_fitted() -> None:
    evidence = Evidence(3, hidden_size=8, is_read=False)
    lists = [features(CANDIDATES, MODALITIES)]
    evidence.fit(lists, [np.array([False, True, False])])
    tokens, priors = evidence(torch.from_numpy(lists[0]))
    assert priors.tolist() == [0, 0, 0]
    assert tokens.shape == (3, 8)
    assert not tokens.any()
    assert evidence.state_dict().keys() == Evidence(3, hidden_size=8).state_dict().keys()
    assert evidence.slopes_F.tolist() == [0] * 9 + [1]


def test_a_fit_finds_the_module_wherever_it_lies() -> None:
    lists, chosen = planted(20)
    evidence = Evidence(1, hidden_size=8).to("meta")
    evidence.fit(lists, chosen)
    tokens, priors = evidence(torch.from_numpy(lists[0]))
    assert {tokens.device.type, priors.device.type, evidence.slopes_F.device.type} == {"meta"}
