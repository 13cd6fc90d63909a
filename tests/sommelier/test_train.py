"""Training looks at nothing from the cut on, and happens once for its inputs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sommelier.settings_file import load
from sommelier.train import trained, training_key
from sommelier.tune import tuned
from sommelier.workspace import Workspace


@pytest.fixture
def workspace(built: Path) -> Workspace:
    return Workspace(load(built))


def with_interactions(workspace: Workspace, interactions: pa.Table) -> Workspace:
    """The same workspace over other events."""
    object.__setattr__(workspace.catalog, "interactions", interactions)
    return workspace


def test_what_was_trained_lies_in_the_workspace(workspace: Workspace) -> None:
    ready = trained(workspace)
    models = workspace.settings.paths.models
    assert ready.adapter.parent == models / "adapters"
    assert Path(ready.llm).parent == models / "llm"
    assert ready.pooling == tuned(workspace)
    assert (models / "pooling.json").is_file()


def test_the_state_names_no_place_of_this_machine(workspace: Workspace) -> None:
    facts = workspace.state.read("train")
    assert not any(str(value).startswith("/") for value in facts.values())


def test_events_from_the_cut_on_change_nothing(built: Path, workspace: Workspace) -> None:
    key = training_key(workspace)
    assert key == workspace.state.read("train")["key"]
    line, events = workspace.timeline, workspace.catalog.interactions
    before = events.filter(pc.less(events["timestamp"], line.cut))
    moments = [
        f"time.graph_until={line.graph_until.isoformat()}",
        f"time.cut={line.cut.isoformat()}",
    ]
    # One event after the cut stays, so that the cut remains within the events.
    later = events.filter(pc.greater_equal(events["timestamp"], line.cut)).slice(0, 1)
    other = Workspace(load(built, overrides=moments))
    with_interactions(other, pa.concat_tables([before, later]))
    assert training_key(other) == key


def test_events_before_the_cut_do(built: Path, workspace: Workspace) -> None:
    line, events = workspace.timeline, workspace.catalog.interactions
    moments = [
        f"time.graph_until={line.graph_until.isoformat()}",
        f"time.cut={line.cut.isoformat()}",
    ]
    other = Workspace(load(built, overrides=moments))
    first = pc.min_max(events["timestamp"])["min"]
    with_interactions(other, events.filter(pc.not_equal(events["timestamp"], first)))
    assert training_key(other) != training_key(workspace)


@pytest.mark.parametrize("word", ["ranker.training.seed=5", "target.behaviors=['purchase']"])
def test_other_settings_are_another_training(built: Path, workspace: Workspace, word: str) -> None:
    assert training_key(Workspace(load(built, overrides=[word]))) != training_key(workspace)
