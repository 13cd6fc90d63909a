"""What is published is what was trained and indexed; the same twice is one generation."""

from pathlib import Path
from typing import Any

from sommelier.publish import generations, publish, releases
from sommelier.settings_file import load
from sommelier.train import trained
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace


def test_the_generation_pins_the_cut_and_the_spaces(built: Path) -> None:
    workspace = Workspace(load(built))
    generation = generations(workspace).current()
    assert generation.as_of == workspace.timeline.cut
    assert generation.spaces == workspace.item_vectors.spaces
    assert {*workspace.spaces()} < {*generation.spaces}, "and the network's"
    assert generation.llm == trained(workspace).llm


def test_publishing_again_stays_the_same_generation(built: Path) -> None:
    workspace = Workspace(load(built))
    before = generations(workspace).ids()
    assert not publish(workspace, watch=Unwatched()).is_new
    assert generations(workspace).ids() == before


def test_a_feature_service_names_what_the_generation_reads(built: Path) -> None:
    workspace = Workspace(load(built))
    generation = generations(workspace).current()
    stored = generation.stored_spaces
    network = {space.space_id for space in generation.spaces if space.encoder == "sequence"}
    names = {space.space_id for space in stored}
    assert network, "the network's vectors are in the index alone"
    assert network.isdisjoint(names)
    assert releases(workspace) == {generation.generation_id: stored}
    feast_itself: Any = workspace.store.feature_store._feast  # type: ignore[attr-defined]
    service = feast_itself.get_feature_service(f"rerank_{generation.generation_id}")
    views = {projection.name for projection in service.feature_view_projections}
    assert {name.partition("_")[2] for name in views} == names | {"profile", "history"}
