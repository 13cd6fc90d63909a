"""Every view is online after materializing, and a second run writes nothing."""

from pathlib import Path

from feature_repo.reader import OnlineReader
from sommelier.materialize import materialize
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace


def test_a_second_run_writes_nothing(built: Path) -> None:
    summary = materialize(Workspace(load(built)), watch=Unwatched())
    assert not summary.is_new
    assert {count for _, count in summary.rows} == {0}


def test_in_full_every_row_is_written_again(copy_of_built: Path) -> None:
    workspace = Workspace(load(copy_of_built))
    summary = materialize(workspace, watch=Unwatched(), is_full=True)
    rows = dict(summary.rows)
    assert rows["item_profile"] == 60
    assert rows["user_history"] == 60


def test_vectors_online_are_those_offline(built: Path) -> None:
    workspace = Workspace(load(built))
    for space in workspace.spaces():
        held = workspace.store.read(space)
        vectors_ND, is_present_N = OnlineReader(workspace.store).vectors(space, held.item_ids)
        assert is_present_N.all()
        assert (vectors_ND == held.vectors_ND).all()
