"""What is said in words is what the numbers say."""

from dataclasses import replace

import pytest

from evaluation.significance import Difference
from evaluation.summary import facts, headline, percent, remarks, signed


def with_delta(report, low, mean, high):
    delta = Difference(mean=mean, low=low, high=high, p_value=0.5)
    return replace(report, delta=dict(report.delta) | {report.headline: delta})


def test_a_gain_is_called_one_with_its_interval_and_its_users(report):
    said = headline(report)
    assert said.startswith("Reranking raises NDCG@10 by ")
    assert "95% interval of +" in said
    assert "over 300 users" in said


def test_a_loss_is_called_a_loss(report):
    assert "Reranking lowers NDCG@10" in headline(with_delta(report, -0.03, -0.02, -0.01))


@pytest.mark.parametrize("ends", [(-0.001, 0.04, 0.09), (-0.09, -0.04, 0.001), (0.0, 0.02, 0.04)])
def test_an_interval_that_includes_zero_is_never_called_a_gain(report, ends):
    said = headline(with_delta(report, *ends))
    assert "includes zero" in said
    assert "raises" not in said
    assert "lowers" not in said


def test_modalities_are_named_by_worth_and_doubt_is_said(report):
    said = remarks(report)[-1]
    assert said.index("text") < said.index("graph") < said.index("audio")
    doubtful = replace(
        report,
        ablations=tuple(
            replace(one, delta=Difference(mean=0.01, low=-0.01, high=0.03, p_value=0.4))
            for one in report.ablations
        ),
    )
    assert remarks(doubtful)[-1].count("cannot be told from zero") == len(report.ablations)


def test_the_way_to_the_ceiling_is_told_only_of_a_certain_gain(report):
    assert any("of the way to it" in one for one in remarks(report))
    doubtful = remarks(with_delta(report, -0.01, 0.02, 0.05))
    assert any("would reach" in one for one in doubtful)
    assert not any("of the way to it" in one for one in doubtful)


def test_seen_candidates_are_warned_of(report):
    warned = replace(report, counts=dict(report.counts) | {"num_seen_candidates": 7})
    assert any("7 candidates had been met" in one for one in remarks(warned))
    assert not any("had been met" in one for one in remarks(report))


def test_the_manifest_is_flattened_to_facts(report):
    flat = dict(facts(report))
    assert flat["versions.numpy"]
    assert flat["ks"] == "5, 10, 20"


def test_numbers_are_written_for_readers():
    assert signed(-0.01) == "\N{MINUS SIGN}0.0100"
    assert signed(0.01) == "+0.0100"
    assert (percent(0.5), percent(0.034), percent(0)) == ("50%", "3.4%", "0%")
    assert (percent(0.997), percent(1), percent(1.83)) == ("99.7%", "100%", "183%")


def test_an_index_that_loses_something_is_said_to(report):
    assert any("The index finds 94% of the first 100" in one for one in remarks(report))


def test_losses_are_told_with_the_largest_first(report):
    said = next(one for one in remarks(report) if one.startswith("Of 635 choices"))
    assert said.index("ranked out") < said.index("below K") < said.index("not in the catalog")


def test_retrieval_alone_is_called_that_and_nothing_is_said_of_reranking(alone):
    said = headline(alone)
    assert said.startswith("Retrieval's first 100 candidates hold 78%")
    assert said.endswith("Nothing was reranked.")
    assert not any("LLM" in one for one in remarks(alone))


def test_two_populations_are_told_apart(mixed):
    assert "over 60 users" in headline(mixed)
    assert remarks(mixed)[0].startswith("Retrieval is measured on 300 users")
    assert "60 of them" in remarks(mixed)[0]


def test_a_split_that_lets_the_future_in_is_said_to(report):
    leaky = dict(report.manifest) | {"split": "given", "leaks": "It saw the future."}
    assert remarks(replace(report, manifest=leaky))[-1] == "It saw the future."
