from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from embedders.items import EPOCH
from embedders.vectors import Embeddings
from sommelier.compact import compact, days, ids_in_use
from sommelier.publish import generations
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.feature_repo.texts import PREFERENCE, SUMMARY, write_texts
from tests.sommelier.conftest import Run


def test_a_retention_is_a_number_of_days() -> None:
    assert days("365d") == days(" 365 ") == timedelta(days=365)
    assert days("0d") == timedelta(0)
    for wrong in ("1y", "-1d", "", "1.5d", "9999999d"):
        with pytest.raises(ValueError, match="a number of days such as 365d"):
            days(wrong)


def test_only_what_nothing_reads_is_dropped(copy_of_built: Path) -> None:
    workspace = Workspace(load(copy_of_built))
    used = {space_id for _, space_id in workspace.store.spaces()}
    assert ids_in_use(workspace) == used
    left = replace(workspace.spaces()[0], revision="of last year")
    unit_1D = np.eye(left.dim, dtype=np.float32)[:1]
    embeddings = Embeddings(space=left, item_ids=["box"], vectors_ND=unit_1D)
    workspace.store.write(embeddings, content_hashes=["x"], event_timestamps=[EPOCH])

    told = compact(workspace, watch=Unwatched(), drops=True, is_dry=True)
    assert (told.title, told.rows[0][0]) == ("Would be compacted", f"item_{left.space_id}")
    assert len(workspace.store.spaces()) > len(used)
    done = compact(workspace, watch=Unwatched(), drops=True)
    assert {space_id for _, space_id in workspace.store.spaces()} == used
    assert [row[5] for row in done.rows if row[0] == f"item_{left.space_id}"] == [1]
    again = compact(workspace, watch=Unwatched(), drops=True)
    assert not again.is_new


def test_the_current_generation_keeps_its_spaces_whatever_was_embedded_since(
    copy_of_built: Path,
) -> None:
    workspace = Workspace(load(copy_of_built))
    spaces = workspace.state.read("embed")["spaces"]
    others = [one | {"revision": "another"} for one in spaces]
    workspace.state.write("embed", {"spaces": others})
    workspace.state.write("index", {})
    current = generations(workspace).current()
    needed = {space.space_id for space in current.stored_spaces}
    assert needed <= ids_in_use(workspace)
    compact(workspace, watch=Unwatched(), drops=True)
    assert needed <= {space_id for _, space_id in workspace.store.spaces()}


def test_texts_of_the_last_whole_summarizing_and_of_one_under_way_are_kept(
    copy_of_stored: Path,
) -> None:
    workspace = Workspace(load(copy_of_stored))
    store, newer = workspace.store, replace(SUMMARY, revision="newer")
    write_texts(store, PREFERENCE, {"u": "Bread."})
    write_texts(store, SUMMARY, {"box": "One."})
    assert {SUMMARY.source_id, PREFERENCE.source_id} <= ids_in_use(workspace), "nothing was whole"
    workspace.note_source(SUMMARY)
    write_texts(store, newer, {"box": "Another's."})
    assert {SUMMARY.source_id, newer.source_id} <= ids_in_use(workspace), "interrupted"
    write_texts(store, SUMMARY, {"can": "Two."})
    assert newer.source_id not in ids_in_use(workspace), "given up"
    done = compact(workspace, watch=Unwatched(), drops=True)
    assert [row[5] for row in done.rows if row[0] == f"item_{newer.source_id}"] == [1]
    assert set(store.text_sources()) == {SUMMARY.source_id, PREFERENCE.source_id}


def test_nothing_is_dropped_while_a_generation_cannot_say_what_it_reads(
    copy_of_built: Path,
) -> None:
    workspace = Workspace(load(copy_of_built))
    current = generations(workspace).current()
    assert current.folder is not None
    (current.folder / "generation.json").write_text("{")
    with pytest.raises(ValueError, match=r"is damaged .* none is dropped"):
        compact(workspace, watch=Unwatched(), drops=True)


def test_the_command_shows_each_view(copy_of_built: Path, run: Run) -> None:
    shown = run("compact", "--settings", copy_of_built, "--keep", "3650d", "--dry-run")
    assert shown.exit_code == 0, shown.output + shown.stderr
    assert "item_profile" in shown.output
    wrong = run("compact", "--settings", copy_of_built, "--keep", "a year")
    assert wrong.exit_code != 0
    assert "a number of days" in wrong.stderr
