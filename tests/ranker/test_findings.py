"""What a ranking says while only a part of it is known."""

import numpy as np
import pytest

from embedders.items import Modality
from ranker.calibration import Calibrator
from ranker.findings import Findings
from ranker.ranking import Ranking, Status
from retrieval.candidates import Candidate

CALIBRATOR = Calibrator(logit_weight=0.5, slope=1.0, intercept=0.0, behaviors={"buy": (1.0, -40.0)})


def candidate(item_id: str, rank: int) -> Candidate:
    return Candidate(item_id=item_id, score=1 / rank, rank=rank)


def findings(behavior: str | None = None, calibrator: Calibrator | None = CALIBRATOR) -> Findings:
    return Findings(
        generation_id="g",
        known=[candidate("d", 1), candidate("b", 2), candidate("c", 3), candidate("a", 4)],
        unknown=[candidate("yy", 9), candidate("zz", 5)],
        present=dict.fromkeys("abc", (Modality.TEXT,)),
        cut=frozenset("cd"),
        priors_N=np.array([0.0, 1.0, 0.5, 9.0], dtype=np.float32),
        calibrator=calibrator,
        behavior=behavior,
    )


def ranked(ranking: Ranking) -> list[tuple[str, int, float]]:
    return [(one.item_id, one.rank, one.score) for one in ranking.items]


def test_what_is_not_scored_follows_in_retrievals_order_however_well_it_began() -> None:
    ranking = findings().ranking(np.array([2.0, 0.0], dtype=np.float32), tokens_ahead=7)
    assert ranked(ranking) == [
        ("b", 1, 1.0),
        ("d", 2, 1.0),
        ("c", 3, 0.5),
        ("a", 4, 9.0),
        ("yy", 0, 0.0),
        ("zz", 0, 0.0),
    ]
    assert (ranking.num_scored, ranking.tokens_ahead, ranking.judged_by) == (2, 7, "llm")
    assert [ranking.prior(one) for one in ranking.items[:4]] == [1.0, 0.0, 0.5, 9.0]
    assert [one.probability is None for one in ranking.items[:4]] == [False, False, True, True]


def test_before_the_first_score_the_order_is_retrievals() -> None:
    ranking = findings().ranking(np.zeros(0, dtype=np.float32))
    assert [one.item_id for one in ranking.items] == ["d", "b", "c", "a", "yy", "zz"]
    assert ranking.judged_by == "retrieval_order"
    assert [one.status for one in ranking.items[3:5]] == [Status.NOT_SCORED, Status.UNKNOWN_ITEM]
    assert ranking.items[3].present == (Modality.TEXT,)


def test_an_item_without_vectors_says_that_before_that_its_text_is_cut() -> None:
    ranking = findings().ranking(np.zeros(4, dtype=np.float32))
    assert {one.item_id: one.status for one in ranking.items if one.rank} == {
        "a": Status.OK,
        "b": Status.OK,
        "c": Status.TRUNCATED,
        "d": Status.MISSING_VECTORS,
    }


def test_a_behavior_that_is_asked_about_has_probabilities_of_its_own() -> None:
    logits_S = np.zeros(1, dtype=np.float32)
    for behavior in (None, "view"):
        assert findings(behavior).ranking(logits_S).items[0].probability == 0.5
    bought = findings("buy").ranking(logits_S).items[0].probability
    assert bought is not None
    assert bought < 1e-9


@pytest.mark.parametrize("calibrator", [None, CALIBRATOR])
def test_a_score_is_the_same_bits_however_many_are_scored(calibrator: Calibrator | None) -> None:
    logits = np.array([0.1, 1 / 3, -2.7, 1e-7], dtype=np.float32)
    whole = {one.item_id: one.score for one in findings(None, calibrator).ranking(logits).items}
    for num_scored in range(1, 4):
        ranking = findings(None, calibrator).ranking(logits[:num_scored])
        for one in ranking.items[:num_scored]:
            assert one.score == whole[one.item_id]
