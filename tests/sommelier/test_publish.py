"""What is published is what was trained and indexed; the same twice is one generation."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ranker.generation import GenerationError, Generations
from ranker.loaded import load as load_generation
from sommelier.compact import ids_in_use
from sommelier.publish import generations, overview, publish, releases, roll_back
from sommelier.settings_file import load
from sommelier.training.train import trained
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.feature_repo.texts import SUMMARY, write_texts


def test_the_generation_pins_the_cut_and_the_spaces(built: Path) -> None:
    workspace = Workspace(load(built))
    generation = generations(workspace).current()
    assert generation.as_of == workspace.timeline.cut
    assert generation.spaces == workspace.item_vectors.spaces
    assert {*workspace.spaces()} < {*generation.spaces}, "and the network's"
    assert generation.llm == "", "it is the workspace's own"
    weights = "model.safetensors"
    held, own = Path(generation.llm_source) / weights, Path(trained(workspace).llm) / weights
    assert os.path.samefile(held, own)


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


def test_what_is_published_was_asked_and_answers_wherever_it_lies(
    built: Path, tmp_path: Path
) -> None:
    workspace = Workspace(load(built))
    assert generations(workspace).current().probes is not None
    shutil.copytree(generations(workspace).root, tmp_path / "elsewhere")
    moved = Generations(tmp_path / "elsewhere")
    found = load_generation(moved, store=workspace.store, online=False)
    assert found.model.llm.source == str(tmp_path / "elsewhere" / "g-000001" / "llm")


@pytest.fixture
def twice(copy_of_built: Path) -> Workspace:
    """A copy of the shop in which the same was published again under another id."""
    workspace = Workspace(load(copy_of_built))
    every = generations(workspace)
    shutil.copytree(every.root / "g-000001", every.root / "g-000002")
    manifest = every.root / "g-000002" / "generation.json"
    manifest.write_text(manifest.read_text().replace("g-000001", "g-000002"))
    every.point("g-000002")
    return workspace


def test_rolling_back_points_at_the_one_before_or_the_one_named(twice: Workspace) -> None:
    every = generations(twice)
    assert roll_back(twice).is_new
    assert every.current_id() == "g-000001"
    with pytest.raises(GenerationError, match="no generation before g-000001 to roll back to"):
        roll_back(twice)
    assert roll_back(twice, "g-000002").is_new
    assert every.current_id() == "g-000002"
    assert not roll_back(twice, "g-000002").is_new


def test_a_generation_that_cannot_serve_is_not_pointed_at(twice: Workspace) -> None:
    every = generations(twice)
    (every.read("g-000001").adapter / "adapter.json").write_text("{}")
    with pytest.raises(GenerationError, match=r"adapter\.json is not what was published"):
        roll_back(twice)
    with pytest.raises(GenerationError, match="no generation 'g-000009'"):
        roll_back(twice, "g-000009")
    assert every.current_id() == "g-000002"


def test_a_generation_whose_vectors_were_dropped_is_not_pointed_at(twice: Workspace) -> None:
    every = generations(twice)
    manifest = every.root / "g-000001" / "generation.json"
    fused = every.current().fused_space
    manifest.write_text(manifest.read_text().replace(fused.revision, "f" * len(fused.revision)))
    with pytest.raises(GenerationError, match="reads vectors or texts that the store dropped"):
        roll_back(twice)
    assert every.current_id() == "g-000002"
    assert "dropped" in str(overview(twice).rows[0][-1])


def test_a_generation_reads_texts_and_is_not_pointed_at_without_them(twice: Workspace) -> None:
    manifest = generations(twice).root / "g-000001" / "generation.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"texts": [asdict(SUMMARY)]}))
    assert set(releases(twice)) == {"g-000002"}
    with pytest.raises(GenerationError, match="reads vectors or texts that the store dropped"):
        roll_back(twice)
    write_texts(twice.store, SUMMARY, {"a": "One."})
    assert releases(twice)["g-000001"][-1] == SUMMARY
    assert SUMMARY not in releases(twice)["g-000002"]
    assert SUMMARY.source_id in ids_in_use(twice)


def test_the_overview_says_which_is_served_and_which_could_be(twice: Workspace) -> None:
    every = generations(twice)
    shown = overview(twice)
    assert [row[0] for row in shown.rows] == ["g-000001", "g-000002 *"]
    assert {row[-1] for row in shown.rows} == {"ready"}
    (every.root / "g-000001" / "generation.json").write_text("{")
    assert str(overview(twice).rows[0][-1]).startswith("damaged: ")
    (every.root / "CURRENT").unlink()
    assert [row[0] for row in overview(twice).rows] == ["g-000001", "g-000002"]
