"""Settings that would mislead are refused."""

import pytest

from evaluation.protocol import EvaluationConfig


def test_recall_deeper_than_the_candidate_list_is_refused():
    with pytest.raises(ValueError, match="within num_candidates"):
        EvaluationConfig(num_candidates=50)
    assert EvaluationConfig(num_candidates=50, recall_ks=(20, 50)).headline_k == 10


def test_a_headline_that_is_not_measured_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'ndcg@7' is not measured; choose from .*'ndcg@10'"):
        EvaluationConfig(headline="ndcg@7")
