import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embedders.items import EPOCH, Item, Reject
from embedders.probes import Probes
from embedders.vectors import Embeddings, Space
from feature_repo import compaction, ledger, parts, retention
from feature_repo.base import Entity, StoreError
from feature_repo.store import Store
from feature_repo.tables import history_view, profile_view, vector_view
from tests.child import child
from tests.feature_repo.texts import PREFERENCE, SUMMARY, write_texts

DAY = timedelta(days=1)
WriteAxes = Callable[..., int]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SETTLE_S", 0.0)


@pytest.fixture
def other(space: Space) -> Space:
    return replace(space, revision="2")


def write(store: Store, space: Space) -> None:
    one = Embeddings(space=space, item_ids=["a"], vectors_ND=np.eye(3, dtype=np.float32)[:1])
    store.write(one, content_hashes=["x"], event_timestamps=[EPOCH])


def test_every_view_is_merged_and_none_twice(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    for n in range(3):
        write_axes(store, {f"item-{n}": n})
        store.write_profiles([Item(item_id=f"item-{n}", title=f"Title {n}")])
    asked: list[tuple[str, int, int]] = []
    done = store.compact(on_progress=lambda view, n, total: asked.append((view, n, total)))
    assert [(one.view, one.parts_before, one.parts_after) for one in done] == [
        (vector_view(space).name, 3, 1),
        ("item_profile", 3, 1),
        ("user_history", 0, 0),
    ]
    assert asked == [(one.view, n, 3) for n, one in enumerate(done)]
    assert store.read(space).item_ids == ["item-0", "item-1", "item-2"]
    assert {one.parts_before for one in store.compact()} == {1, 0}


def test_spaces_that_nobody_uses_are_dropped(store: Store, space: Space, other: Space) -> None:
    write(store, space)
    write(store, other)
    probes = Probes(
        item_ids=("p",), vectors_KD=np.eye(3, dtype=np.float32)[:1], created=datetime.now(UTC)
    )
    store.write_probes(other, probes)
    store.apply()
    store.materialize(EPOCH)
    told = store.compact(in_use=[space.space_id], is_dry_run=True)
    assert (told[0].view, told[0].rows_dropped) == (vector_view(other).name, 1)
    assert len(store.spaces()) == 2
    store.compact(in_use=[space.space_id])
    assert store.spaces() == {(Entity.ITEM, space.space_id): space}
    assert store.probes(other) is None
    left = {one.name for one in (store.root / "parts").iterdir()}
    assert left == {vector_view(space).name, "item_profile", "user_history"}
    (held,) = ledger.read(store.root).values()
    assert vector_view(other).name not in held
    with pytest.raises(StoreError, match=f"no item vectors of {other.space_id}"):
        store.read(other)
    assert store.apply() == [vector_view(space).name, "item_profile", "user_history"]
    assert store.materialize(EPOCH)[vector_view(space).name] == 0
    write(store, other)  # and it may come back
    assert store.read(other).item_ids == ["a"]


def test_the_spaces_of_a_release_are_in_use(store: Store, space: Space, other: Space) -> None:
    write(store, space)
    write(store, other)
    store.apply(releases={"v1": [other]})
    store.compact(in_use=[space.space_id])
    assert len(store.spaces()) == 2


def test_a_store_is_never_left_without_any_space(store: Store, space: Space) -> None:
    write(store, space)
    with pytest.raises(StoreError, match=r"none of the 1 spaces .* is in use"):
        store.compact(in_use=["another"])
    assert len(store.spaces()) == 1


def test_texts_that_nobody_uses_are_dropped_and_come_back(store: Store, space: Space) -> None:
    write(store, space)
    write_texts(store, SUMMARY, {"a": "One."})
    write_texts(store, PREFERENCE, {"u": "Bread."})
    store.apply()
    store.materialize(EPOCH)
    done = store.compact(in_use=[space.space_id, PREFERENCE.source_id])
    assert (done[0].view, done[0].rows_dropped) == (f"item_{SUMMARY.source_id}", 1)
    assert store.text_sources() == {PREFERENCE.source_id: PREFERENCE}
    left = {one.name for one in (store.root / "parts").iterdir() if one.name[0] != "."}
    assert f"item_{SUMMARY.source_id}" not in left
    (held,) = ledger.read(store.root).values()
    assert f"item_{SUMMARY.source_id}" not in held
    assert list(store.known_texts(SUMMARY)) == []
    assert f"item_{SUMMARY.source_id}" not in store.apply()
    write_texts(store, SUMMARY, {"a": "Again."})
    assert store.read_texts(SUMMARY)["a"].text == "Again."
    assert store.spaces() == {(Entity.ITEM, space.space_id): space}


def test_the_texts_of_a_release_are_in_use(store: Store, space: Space) -> None:
    write(store, space)
    write_texts(store, SUMMARY, {"a": "One."})
    store.apply(releases={"v1": [SUMMARY]})
    store.compact(in_use=[space.space_id])
    assert list(store.read_texts(SUMMARY)) == ["a"]
    store.apply(releases={})
    store.compact(in_use=[space.space_id])
    assert store.text_sources() == {}


def test_a_store_of_texts_alone_is_never_left_without_any(store: Store) -> None:
    write_texts(store, SUMMARY, {"a": "One."})
    with pytest.raises(StoreError, match=r"none of the 1 sources .* is in use"):
        store.compact(in_use=["another"])
    assert len(store.text_sources()) == 1


def test_users_keep_their_vectors_with_their_space(
    store: Store, space: Space, other: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"u": 1}, entity=Entity.USER)
    write(store, other)
    store.compact(in_use=[space.space_id])
    assert set(store.spaces()) == {(Entity.USER, space.space_id)}


def test_impossible_retentions_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be kept for -1 day"):
        store.compact(keep=-DAY)
    with pytest.raises(StoreError, match="before all time"):
        store.compact(keep=timedelta(days=2_000_000))


def test_how_far_back_rows_go_is_remembered(store: Store) -> None:
    now = datetime(2024, 5, 1, tzinfo=UTC)
    store.compact(keep=30 * DAY, now=now, is_dry_run=True)
    assert retention.read(store.root) == {}
    store.compact(keep=30 * DAY, now=now)
    store.compact(keep=60 * DAY, now=now)
    assert retention.read(store.root) == {
        view.name: now - 30 * DAY for view in (profile_view(), history_view())
    }
    (store.root / "retention.json").write_text("[]")
    with pytest.raises(StoreError, match=r"is damaged .* compact again with --keep"):
        retention.read(store.root)


def test_old_rejects_go_and_the_others_are_merged(store: Store) -> None:
    for n in range(3):
        store.write_rejects([Reject(source="items", key=f"row {n}", reason="no id")])
    before = store.rejects()
    store.compact(keep=DAY)
    assert store.rejects() == before
    assert len(list((store.root / "rejects").iterdir())) == 1
    store.compact(keep=DAY, now=datetime.now(UTC) + 2 * DAY)
    assert store.rejects() == []


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
import pyarrow as pa
from embedders.items import EPOCH, Item, Modality
from embedders.vectors import Embeddings, Space
from feature_repo.store import Store
root, who = Path(sys.argv[1]), sys.argv[2]
space = Space(modality=Modality.TEXT, encoder="toy", revision="1", dim=3)
unit = np.eye(3, dtype="f4")[:1]
store = Store(root)
for n in range(15):
    one = f"{who}{n:02d}"
    vectors = Embeddings(space=space, item_ids=[one], vectors_ND=unit)
    store.write(vectors, content_hashes=[one], event_timestamps=[EPOCH])
    store.write_profiles([Item(item_id=one, title=one)])
    times = pa.array([EPOCH, EPOCH + timedelta(days=1)], pa.timestamp("us", "UTC"))
    log = {"user_id": [one] * 2, "item_id": ["a", "b"], "behavior": ["view"] * 2}
    log["timestamp"] = times
    log |= {"weight": pa.nulls(2, pa.float64()), "position": pa.nulls(2, pa.int64())}
    store.write_history(pa.table(log))
"""


def _finished(processes: list["subprocess.Popen[bytes]"]) -> Iterator[bool]:
    while any(process.poll() is None for process in processes):
        yield False
    yield True


@pytest.mark.slow
def test_writers_readers_and_compactions_at_once_lose_nothing(store: Store, space: Space) -> None:
    """Two processes write everything, one thread reads, and a compaction follows the other."""
    write(store, space)
    compaction.SETTLE_S = 0.2
    command = [sys.executable, "-c", WRITER, str(store.root)]
    errors: list[Exception] = []
    sizes = [0]
    with ExitStack() as ending:
        writers = [ending.enter_context(child([*command, who])) for who in "xy"]

        def read() -> None:
            try:
                for _ in _finished(writers):
                    found = set(store.read(space).item_ids)
                    assert len(found) >= sizes[-1]  # what was once there stays
                    assert "a" in found
                    sizes.append(len(found))
                    assert len(store.profiles()) <= 30
                    assert {known.content_hash for _, known in store.known(space)} >= {"x"}
            except Exception as error:
                errors.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        num_merged = 0
        for _ in _finished(writers):
            num_merged += sum(one.parts_before - one.parts_after for one in store.compact())
        reader.join()
        assert [writer.wait() for writer in writers] == [0, 0]
    assert errors == []
    assert num_merged > 0
    store.compact()
    expected = sorted(f"{who}{n:02d}" for who in "xy" for n in range(15))
    assert store.read(space).item_ids == ["a", *expected]
    assert list(store.profile_ids()) == expected
    histories = parts.latest(store.root, history_view(), columns=["user_id", "item_ids"])
    assert histories["user_id"].to_pylist() == expected
    assert histories["item_ids"].to_pylist() == [["a", "b"]] * 30
    assert len(parts.list_parts(store.root, history_view())) == 2
