import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feature_repo.reader import OnlineReader
from sommelier.push import push
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

NOW = datetime.now(UTC) - timedelta(minutes=5)


def write(path: Path, *events: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def event(user: str, item: str, *, minute: int = 0) -> dict[str, object]:
    at = (NOW + timedelta(minutes=minute)).isoformat()
    return {"user_id": user, "item_id": item, "behavior": "view", "timestamp": at}


def last_items(workspace: Workspace, user: str) -> list[str]:
    history = OnlineReader(workspace.store).history(user)
    return [] if history is None else [one.item_id for one in history]


def test_events_are_online_after_the_push_and_bad_rows_are_set_aside(
    copy_of_built: Path, tmp_path: Path
) -> None:
    workspace = Workspace(load(copy_of_built))
    first, second, *_ = workspace.store.profile_ids()
    user = workspace.catalog.interactions["user_id"][0].as_py()
    before = last_items(workspace, user)
    timeless = {"user_id": user, "item_id": first, "behavior": "view"}
    file = write(
        tmp_path / "new.jsonl",
        event(user, second, minute=1),
        event(user, first),
        event("a newcomer", first),
        event(user, "no such item"),
        event("", first),
        timeless,
    )
    done = push(workspace, file, watch=Unwatched())
    assert done.rows == ((3, 2, 3, 3),)
    assert last_items(workspace, user) == [*before, first, second][-50:]
    assert last_items(workspace, "a newcomer") == [first]
    reasons = {one.reason for one in workspace.store.rejects() if one.source == "new"}
    assert any("no good item of the store" in reason for reason in reasons)
    assert "have neither a timestamp nor a position" in reasons
    assert not push(workspace, file, watch=Unwatched()).is_new


def test_the_command_names_a_missing_file(copy_of_built: Path, run: Run, tmp_path: Path) -> None:
    missing = run("push", tmp_path / "none.csv", "--settings", copy_of_built)
    assert missing.exit_code != 0
    assert "there is no file" in missing.stderr
    file = write(tmp_path / "new.jsonl", event("u", "no such item"))
    shown = run("push", file, "--settings", copy_of_built)
    assert shown.exit_code == 0, shown.output + shown.stderr
    assert "nothing is new" in shown.output


def test_a_file_without_events_is_an_error_that_names_the_column(
    copy_of_built: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.csv").write_text("user_id,behavior\nu,view\n")
    with pytest.raises(ValueError, match="item_id"):
        push(Workspace(load(copy_of_built)), tmp_path / "new.csv", watch=Unwatched())


def test_an_event_of_now_has_no_place_on_a_splits_own_clock(
    run: Run, shop: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.jsonl", event("user-0001", "box-0001"))
    result = run("push", file, "--settings", shop / "sommelier.toml", "--set", "time.split=user")
    assert result.exit_code == 1
    assert 'the split "user" has a clock of its own' in result.stderr
