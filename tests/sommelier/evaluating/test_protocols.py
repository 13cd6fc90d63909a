"""Published protocols on the published generation: each system beside popularity, by its name."""

import json
from pathlib import Path

import pytest

from evaluation.last_choice import touched
from evaluation.protocols import named
from sommelier.evaluating.protocol_setting import Setting
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

SYSTEMS = {"rerank", "calibrated", "retrieval", "popularity"}


def measured(run: Run, settings: Path, name: str) -> dict:  # type: ignore[type-arg]
    result = run("evaluate", "--settings", settings, "--protocol", name)
    assert result.exit_code == 0, result.output + result.stderr
    assert name in result.output
    path = settings.parent / "report" / "protocols" / f"{name}.json"
    found: dict = json.loads(path.read_text())  # type: ignore[type-arg]
    assert found["protocol"] == name
    assert found["facts"]["split"] == "time"
    return found


def test_an_unknown_protocol_names_those_there_are(run: Run, built: Path) -> None:
    result = run("evaluate", "--settings", built, "--protocol", "hr@5")
    assert result.exit_code == 1
    assert "choose full, msr/1+20" in result.stderr


def test_a_given_splits_protocol_asks_for_one(run: Run, built: Path) -> None:
    result = run("evaluate", "--settings", built, "--protocol", "mmrec/full")
    assert result.exit_code == 1
    assert "measured on the catalog's own split" in result.stderr


def test_msr_has_both_kinds_of_negatives_and_popularity_beside_every_system(
    run: Run, built: Path
) -> None:
    found = measured(run, built, "msr/1+20")
    assert set(found["parts"]) == {"uniform", "popularity"}
    for systems in found["parts"].values():
        assert set(systems) == SYSTEMS
        assert set(systems["rerank"]) == {"auc", "hr@5", "mrr@5", "ndcg@5"}
    by_popularity = {part: one["popularity"]["auc"]["mean"] for part, one in found["parts"].items()}
    assert by_popularity["uniform"] > by_popularity["popularity"]
    assert any("Krichene" in remark for remark in found["remarks"])


def test_no_negative_was_ever_touched_and_no_history_holds_the_answer(built: Path) -> None:
    setting = Setting(Workspace(load(built)), Unwatched())
    lists = setting.lists(named("msr/1+20"))
    met = touched(setting.workspace.catalog.interactions, setting.judged.judgements)
    assert lists
    for one in lists:
        assert not set(one.negatives) & met[one.query.user_id]
        assert one.truth in met[one.query.user_id]
        assert one.truth not in {event.item_id for event in one.query.history or ()}
        assert one.query.as_of is not None
        assert one.query.as_of >= setting.workspace.timeline.cut


def test_every_answer_of_ours_is_valid(run: Run, built: Path) -> None:
    found = measured(run, built, "tmf/20")
    systems = found["parts"]["uniform"]
    assert set(systems) == SYSTEMS
    assert {one["valid_ratio"]["mean"] for one in systems.values()} == {1.0}
    assert found["facts"]["hr@1_of_valid"]["rerank"] == systems["rerank"]["hr@1"]["mean"]


@pytest.mark.slow
def test_few_shot_says_how_far_its_draws_spread(
    run: Run, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(run, built, "atflrec/k-shot")
    assert "K = 16" in found["parts"]
    for systems in found["parts"].values():
        assert set(systems) == SYSTEMS
        assert len(systems["rerank"]["auc"]["values"]) == 5
        assert len(set(systems["calibrated"]["auc"]["values"])) > 1
        assert len(set(systems["popularity"]["auc"]["values"])) == 1
    assert found["facts"]["num_training_pairs"] >= 8


@pytest.mark.slow
def test_a_given_split_is_gone_all_the_way_and_measured_by_its_protocol(
    run: Run, shop: Path, tmp_path: Path, imported_feast: None
) -> None:
    """The route on a catalog that says neither times nor positions, only its split."""
    from tests.sommelier.conftest import STAGES
    from tests.sommelier.given_shop import write_given_shop

    settings = write_given_shop(shop, tmp_path / "given")
    for stage in STAGES:
        result = run(stage, "--settings", settings)
        assert result.exit_code == 0, result.output + result.stderr
    result = run("evaluate", "--settings", settings, "--protocol", "mmrec/full")
    assert result.exit_code == 0, result.output + result.stderr
    found = json.loads((settings.parent / "report/protocols/mmrec/full.json").read_text())
    systems = found["parts"]["full ranking"]
    assert set(systems) == SYSTEMS
    assert set(systems["rerank"]) == {"recall@10", "recall@20", "ndcg@10", "ndcg@20"}
    assert found["facts"]["split"] == "given"
    assert "not one in time" in found["facts"]["split_leaks"]
    result = run("evaluate", "--settings", settings, "--no-ablations")
    assert result.exit_code == 0, result.output + result.stderr
    text = (settings.parent / "report/report.md").read_text()
    assert "own split is judged, not one in time" in text
