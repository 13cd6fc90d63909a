"""Two machines, as two folders, on one bucket: a mounted one and a server that speaks S3."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Item
from embedders.probes import Probes
from embedders.vectors import Embeddings, Space
from feature_repo import compaction, mirror, parts
from feature_repo.base import StoreError
from feature_repo.store import Store
from feature_repo.tables import profile_view, vector_view
from tests.feature_repo.servers import S3Server
from tests.feature_repo.texts import PREFERENCE, SUMMARY, write_texts

WriteAxes = Callable[..., int]
VIEW = profile_view()
KILLED = """
import os, signal, sys
from pathlib import Path
from embedders.items import Item
from feature_repo import parts
from feature_repo.store import Store
parts.publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store = Store(Path(sys.argv[1]))
parts.define = lambda *_: None
store.write_profiles([Item(item_id="a", title="Kept")])
"""


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SETTLE_S", 0.0)
    monkeypatch.setattr(mirror, "SETTLE_S", 0.0)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    server: S3Server = request.getfixturevalue("s3")
    return server.bucket()


@pytest.fixture
def two(url: str, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    stores = Store(tmp_path / "one", parts_url=url), Store(tmp_path / "two", parts_url=url)
    yield stores
    for store in stores:
        store.close()


def names(store: Store) -> list[str]:
    return [one.name for one in parts.list_parts(store.root, VIEW) if one.name != parts.EMPTY]


def test_what_one_writes_the_other_reads(
    two: tuple[Store, Store], space: Space, write_axes: WriteAxes, imported_feast: None
) -> None:
    one, other = two
    write_axes(one, {"a": 0, "b": 2})
    write_axes(other, {"c": 1})
    one.write_profiles([Item(item_id="a", title="Bread")])
    found = Probes(item_ids=("p",), vectors_KD=np.eye(1, 3, dtype="f4"), created=EPOCH)
    one.write_probes(space, found)
    assert other.spaces() == one.spaces() != {}
    assert other.read(space).item_ids == one.read(space).item_ids == ["a", "b", "c"]
    assert other.profiles()["a"].title == "Bread"
    kept = other.probes(space)
    assert kept is not None
    assert kept.vectors_KD.tolist() == [[1, 0, 0]]
    other.apply()
    write_axes(one, {"d": 1})
    now = datetime.now(UTC)
    vectors_ND, is_present_N = other.vectors_as_of(space, [("b", now), ("d", now), ("e", now)])
    assert vectors_ND.argmax(axis=1).tolist() == [2, 1, 0]
    assert is_present_N.tolist() == [True, True, False]


def test_texts_and_their_sources_are_in_the_bucket(
    url: str, tmp_path: Path, imported_feast: None
) -> None:
    one = Store(tmp_path / "one")
    write_texts(one, SUMMARY, {"a": "One."})
    one.close()
    one, other = Store(one.root, parts_url=url), Store(tmp_path / "two", parts_url=url)
    assert other.text_sources() == {SUMMARY.source_id: SUMMARY}, "from before there was a bucket"
    write_texts(other, PREFERENCE, {"u": "Bread."})
    assert one.read_texts(PREFERENCE)["u"].text == "Bread."
    one.apply()
    assert one.texts_as_of(SUMMARY, [("a", EPOCH)]) == ["One."]
    one.compact(in_use=[PREFERENCE.source_id])
    assert set(other.text_sources()) == {PREFERENCE.source_id}
    one.close()


def test_a_compaction_is_seen_by_the_other(two: tuple[Store, Store]) -> None:
    one, other = two
    for title in ("Bread", "Rye", "Oat"):
        one.write_profiles([Item(item_id="a", title=title)])
    assert len(names(other)) == 3
    one.compact(keep=timedelta(0))
    assert len(names(one)) == 1
    assert other.profiles()["a"].title == "Oat"
    assert names(other) == names(one)


def test_a_dropped_space_is_dropped_for_the_other(
    two: tuple[Store, Store], space: Space, write_axes: WriteAxes
) -> None:
    one, other = two
    write_axes(one, {"a": 0})
    later = Space(modality=space.modality, encoder="toy", revision="2", dim=3)
    vectors = Embeddings(space=later, item_ids=["a"], vectors_ND=np.eye(1, 3, dtype="f4"))
    one.write(vectors, content_hashes=["x"], event_timestamps=[EPOCH])
    assert len(other.spaces()) == 2
    assert other.read(space).item_ids == ["a"]
    one.compact(in_use=[later.space_id])
    assert [space_id for _, space_id in other.spaces()] == [later.space_id]
    assert [path.name for path in parts.list_parts(other.root, vector_view(space))] == [parts.EMPTY]


def test_a_kill_between_upload_and_rename_loses_nothing(two: tuple[Store, Store]) -> None:
    one, other = two
    parts.define(one.root, VIEW)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(one.root)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not [p for p in parts.folder(one.root, VIEW).glob("*.parquet") if p.name != parts.EMPTY]
    assert other.profiles()["a"].title == one.profiles()["a"].title == "Kept"


def test_a_store_that_had_parts_before_it_had_a_bucket_brings_them(
    url: str, tmp_path: Path, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(Store(tmp_path / "one"), {"a": 1})
    assert not (tmp_path / "one" / mirror.FILE).exists()
    one = Store(tmp_path / "one", parts_url=url)
    other = Store(tmp_path / "two", parts_url=url)
    assert other.read(space).item_ids == one.read(space).item_ids == ["a"]


def test_a_part_of_many_chunks_arrives_whole(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    monkeypatch.setattr(mirror, "CHUNK_BYTES", 100)
    one.write_profiles([Item(item_id="a", title="Bread")])
    (name,) = names(other)
    folders = (parts.folder(store.root, VIEW) for store in two)
    assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_an_emptied_bucket_empties_no_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "one", parts_url=f"file://{tmp_path}/bucket")
    store.write_profiles([Item(item_id="a", title="Bread")])
    (tmp_path / "bucket").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is it the right one, and mounted"):
        store.profiles()
    (tmp_path / "elsewhere").rename(tmp_path / "bucket")
    assert store.profiles()["a"].title == "Bread"


def test_a_bucket_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    url = "s3://b/p?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(StoreError, match=r"s3://b/p.*network up"):
        Store(tmp_path / "one", parts_url=url)
    assert not mirror.is_connected(tmp_path / "one")


def test_another_bucket_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "one", parts_url=f"file://{tmp_path}/bucket")
    with pytest.raises(StoreError, match="take the setting back"):
        Store(tmp_path / "one", parts_url=f"file://{tmp_path}/other")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://key:secret@bucket/x", "holds credentials"),
        ("nothing://bucket/x", "is no bucket that can be reached"),
        ("bucket", "is no bucket that can be reached"),
    ],
)
def test_a_url_of_no_use_is_refused(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as refused:
        Store(tmp_path / "one", parts_url=url)
    assert "secret@" not in str(refused.value)


def test_an_upload_that_fails_leaves_no_part(tmp_path: Path) -> None:
    store = Store(tmp_path / "one", parts_url=f"file://{tmp_path}/bucket")
    (tmp_path / "bucket" / "parts").write_text("in the way")
    values = {"item_id": "a", "event_timestamp": EPOCH, "created": EPOCH, "title": "x"}
    row = pa.RecordBatch.from_pylist([values], schema=VIEW.schema)
    with pytest.raises(StoreError, match="does not do what it is asked"):
        parts.append(store.root, VIEW, [row])
    assert [p.name for p in parts.folder(store.root, VIEW).iterdir()] == [parts.EMPTY]
