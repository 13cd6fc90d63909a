"""What is published is what was trained and indexed; the same twice is one generation."""

from pathlib import Path

from sommelier.publish import generations, publish
from sommelier.settings_file import load
from sommelier.train import trained
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace


def test_the_generation_pins_the_cut_and_the_spaces(built: Path) -> None:
    workspace = Workspace(load(built))
    generation = generations(workspace).current()
    assert generation.as_of == workspace.timeline.cut
    assert generation.spaces == workspace.spaces()
    assert generation.llm == trained(workspace).llm


def test_publishing_again_stays_the_same_generation(built: Path) -> None:
    workspace = Workspace(load(built))
    before = generations(workspace).ids()
    assert not publish(workspace, watch=Unwatched()).is_new
    assert generations(workspace).ids() == before
