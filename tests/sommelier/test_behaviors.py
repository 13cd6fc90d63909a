"""A ranker that is asked about behaviors is trained, judged and asked for each of them."""

import json
from pathlib import Path

import pytest

from sommelier.evaluate import judged
from sommelier.serve import loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

ASKS = """
[ranker.prompt]
asks_behavior = true
"""

# peft asks transformers by a name that is on its way out.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
]


@pytest.fixture
def asking(run: Run, copy_of_built: Path) -> Path:
    """The settings file of a shop whose ranker tells carts from purchases."""
    with copy_of_built.open("a") as file:
        file.write(ASKS)
    for stage in ("train", "index", "publish"):
        result = run(stage, "--settings", copy_of_built)
        assert result.exit_code == 0, result.output + result.stderr
    return copy_of_built


def test_each_behavior_is_asked_about_and_judged_by_itself(run: Run, asking: Path) -> None:
    serving = loaded(Workspace(load(asking)), watch=Unwatched())
    assert serving.info.behaviors == ("cart", "purchase")

    words = ("--settings", asking, "--user", "user-0003", "--top-k", "4")
    answers = {
        behavior: run("recommend", *words, "--behavior", behavior).output
        for behavior in ("cart", "purchase")
    }
    assert answers["cart"].count("box-") == answers["purchase"].count("box-") == 4
    assert answers["cart"] != answers["purchase"]
    refused = run("recommend", *words, "--behavior", "view")
    assert refused.exit_code == 1
    assert "cart, purchase" in refused.stderr

    result = run("evaluate", "--settings", asking, "--no-ablations")
    assert result.exit_code == 0, result.output + result.stderr
    found = json.loads((asking.parent / "report" / "report.json").read_text())
    assert sorted(found["behaviors"]) == ["cart", "purchase"]
    workspace = Workspace(load(asking))
    for name, part in found["behaviors"].items():
        judgements = judged(workspace, behavior=name).judgements
        assert part["num_users"] == len(judgements)
        assert part["num_items"] == sum(len(one.item_ids) for one in judgements)
    assert len(found["explained"]) == 4
    for item in found["explained"][0]["items"]:
        total = item["base"] + sum(item["contributions"].values())
        assert total == pytest.approx(item["score"], rel=1e-9, abs=1e-9)
