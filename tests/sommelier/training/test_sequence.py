"""The network over histories is trained once, on what came before the graph's cut."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from retrieval.concatenated import SEQUENCE
from sommelier.settings_file import load
from sommelier.training.sequence import CHECKPOINT, sequence_key, train_sequence
from sommelier.watch import Unwatched
from sommelier.workspace import SEQUENCE_FILE, Workspace


@pytest.fixture
def workspace(built: Path) -> Workspace:
    return Workspace(load(built))


def with_interactions(built: Path, workspace: Workspace, interactions: pa.Table) -> Workspace:
    """The same moments over other events."""
    line = workspace.timeline
    moments = [
        f"time.graph_until={line.graph_until.isoformat()}",
        f"time.cut={line.cut.isoformat()}",
    ]
    other = Workspace(load(built, overrides=moments))
    object.__setattr__(other.catalog, "interactions", interactions)
    return other


def test_its_block_is_searched_with_those_of_the_modalities(workspace: Workspace) -> None:
    assert SEQUENCE in workspace.item_vectors.names
    assert workspace.sequence is not None
    assert workspace.sequence.until == workspace.timeline.graph_until
    assert not (workspace.settings.paths.models / CHECKPOINT).exists()


def test_what_is_trained_is_not_trained_again(workspace: Workspace) -> None:
    path = workspace.settings.paths.models / SEQUENCE_FILE
    before = path.stat().st_mtime_ns
    train_sequence(workspace, watch=Unwatched())
    assert path.stat().st_mtime_ns == before


def test_only_events_before_the_graphs_cut_are_learned_from(
    built: Path, workspace: Workspace
) -> None:
    key, events = sequence_key(workspace), workspace.catalog.interactions
    assert key == workspace.state.read("sequence")["key"]
    until = workspace.timeline.graph_until
    is_later = pc.greater_equal(events["timestamp"], until)
    later, earlier = events.filter(is_later), events.filter(pc.invert(is_later))
    fewer = pa.concat_tables([earlier, later.slice(later.num_rows // 2)])
    assert sequence_key(with_interactions(built, workspace, fewer)) == key
    other = pa.concat_tables([earlier.slice(1), later])
    assert sequence_key(with_interactions(built, workspace, other)) != key


def test_a_damaged_file_is_trained_again_to_the_same_vectors(copy_of_built: Path) -> None:
    workspace = Workspace(load(copy_of_built))
    assert workspace.sequence is not None
    revision = workspace.sequence.space.revision
    path = workspace.settings.paths.models / SEQUENCE_FILE
    path.write_bytes(path.read_bytes()[:100])
    again = Workspace(load(copy_of_built))
    train_sequence(again, watch=Unwatched())
    assert again.sequence is not None
    assert again.sequence.space.revision == revision
    assert SEQUENCE in again.item_vectors.names


def test_switched_off_there_is_no_block(built: Path) -> None:
    workspace = Workspace(load(built, overrides=["sequence.enabled=false"]))
    train_sequence(workspace, watch=Unwatched())
    assert workspace.item_vectors.names == workspace.item_vectors.modalities
    assert workspace.query_vectors is None
