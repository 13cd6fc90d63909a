import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from embedders.items import EPOCH
from feature_repo import compaction, parts, text_sources
from feature_repo.base import StoreError
from feature_repo.store import Store
from feature_repo.tables import text_view
from tests.child import child
from tests.feature_repo.texts import PREFERENCE, SUMMARY, write_texts


def test_a_source_is_read_as_it_was_added_and_no_more_when_it_was_removed(tmp_path: Path) -> None:
    for source in (SUMMARY, PREFERENCE, SUMMARY):
        text_sources.add(tmp_path, source)
    assert text_sources.read(tmp_path) == {
        SUMMARY.source_id: SUMMARY,
        PREFERENCE.source_id: PREFERENCE,
    }
    text_sources.remove(tmp_path, SUMMARY)
    assert list(text_sources.read(tmp_path)) == [PREFERENCE.source_id]


def test_edited_facts_are_refused(tmp_path: Path) -> None:
    text_sources.add(tmp_path, SUMMARY)
    path = tmp_path / "sources.json"
    stored = json.loads(path.read_text())
    stored["summary"][SUMMARY.source_id]["prompt"] = "another"
    path.write_text(json.dumps(stored))
    with pytest.raises(StoreError, match=f"gives {SUMMARY.source_id} the facts of summary_toy_"):
        text_sources.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"summary": {"x": {}}}', '{"poem": {"x": {}}}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.json").write_text(text)
    with pytest.raises(StoreError, match=r"damaged .* or delete it and write the texts again"):
        text_sources.read(tmp_path)


def test_a_store_without_texts_has_no_trace_of_them(
    store: Store,
    write_axes: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    imported_feast: None,
) -> None:
    monkeypatch.setattr(compaction, "SETTLE_S", 0.0)
    write_axes(store, {"a": 0})
    store.apply()
    store.materialize(EPOCH)
    store.delete(["a"], at=EPOCH)
    store.compact()
    assert store.text_sources() == {}
    assert not [path for path in store.root.rglob("*") if "source" in path.name]


KILLED = """
import os, sys
from pathlib import Path
from feature_repo import parts, text_sources
from feature_repo.store import Store
from tests.feature_repo.texts import SUMMARY, write_texts

module, name = {"source": (text_sources, "add"), "part": (parts, "append")}[sys.argv[2]]
setattr(module, name, lambda *_: os._exit(9))
write_texts(Store(Path(sys.argv[1])), SUMMARY, {"a": "One."})
"""


@pytest.mark.parametrize("before", ["source", "part"])
def test_a_writer_that_was_killed_leaves_no_rows_of_a_source_that_nobody_knows(
    store: Store, before: str, repository: Path, imported_feast: None
) -> None:
    command = [sys.executable, "-c", KILLED, str(store.root), before]
    killed = subprocess.run(command, check=False, cwd=repository)
    assert killed.returncode == 9
    assert list(store.text_sources()) == ([SUMMARY.source_id] if before == "part" else [])
    assert list(store.known_texts(SUMMARY)) == []
    held = parts.list_parts(store.root, text_view(SUMMARY))
    assert [path.name for path in held] == [parts.EMPTY]
    store.apply()
    assert set(store.materialize(EPOCH).values()) == {0}
    write_texts(store, SUMMARY, {"a": "One."})
    assert store.apply() == [f"item_{SUMMARY.source_id}", "item_profile", "user_history"]
    assert store.materialize(EPOCH)[f"item_{SUMMARY.source_id}"] == 1


def test_sources_of_several_writers_at_once_are_all_kept(tmp_path: Path, repository: Path) -> None:
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from feature_repo import text_sources; from tests.feature_repo.texts import SUMMARY\n"
        "for n in range(8): text_sources.add(Path(sys.argv[1]), "
        "replace(SUMMARY, revision=f'{sys.argv[2]}-{n}'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with ExitStack() as ending:
        writers = [ending.enter_context(child([*command, one], cwd=repository)) for one in "ab"]
        assert [writer.wait(timeout=100) for writer in writers] == [0, 0]
    expected = {replace(SUMMARY, revision=f"{one}-{n}").source_id for one in "ab" for n in range(8)}
    assert text_sources.read(tmp_path).keys() == expected
