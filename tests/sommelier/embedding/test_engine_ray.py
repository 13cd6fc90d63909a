"""Workers on a Ray cluster write the rows that one process would, also where some of them die."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from embedders import catalog, registry
from embedders.base import Embedder
from embedders.items import EPOCH, Modality
from embedders.known import DELETED, joined
from embedders.registry import EncoderConfig
from feature_repo import parts
from feature_repo.store import Store
from feature_repo.tables import vector_view
from sommelier.embedding.engine import EmbeddingJob, Engine, Outcome
from sommelier.embedding.engine_local import LocalEngine
from sommelier.embedding.pairs import Pair
from sommelier.embedding.registry import open_engine
from sommelier.settings import EmbeddingSettings
from tests.embedders.test_text_auto import bert
from tests.embedders.tiny import text_items
from tests.embedders.tuning.adapters import saved
from tests.sommelier.conftest import Run

# Every worker imports its libraries anew, which a busy machine makes long.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOG = EncoderConfig(modality=Modality.IMAGE, encoder="hog")
TEXT = EncoderConfig(modality=Modality.TEXT, encoder="minilm")
SUMMARY = EncoderConfig(modality=Modality.SUMMARY, encoder="minilm")
NUM_ITEMS = 120
# More workers than the cluster has room for, which must slow a run and not hang it.
ON_RAY = EmbeddingSettings(engine="ray", num_workers=3, ray_cpus=1.0)
WORKER = "ray::MapWorker"  # as Ray calls its processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items with a picture each, but two without one and one whose picture is cut off."""
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "media").mkdir()
    rng = np.random.default_rng(0)
    lines = ["item_id,title,image_path,created_at,color"]
    for n in range(NUM_ITEMS):
        pixels = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
        path = folder / f"media/{n}.png"
        Image.fromarray(pixels).save(path)
        if n == 40:
            path.write_bytes(path.read_bytes()[:2000])
        image = "" if n in (7, 90) else f"media/{n}.png"
        created = f"2025-01-01T00:{n % 60:02}:00Z" if n % 3 else ""
        lines.append(f'item-{n:04},"Box, number {n}",{image},{created},{"red" if n % 2 else ""}')
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster for this file's runs: each would start one of its own otherwise."""
    open_engine(ON_RAY)  # it says to Ray how to be imported
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def hog() -> Embedder:
    return registry.create(HOG, catalog=None)


def job(folder: Path, root: Path, embedder: Embedder, config: EncoderConfig = HOG) -> EmbeddingJob:
    return EmbeddingJob(
        encoder=config,
        space=embedder.space,
        folder=folder,
        brought={},
        store_root=root,
        batch_rows=8,
        now=NOW,
    )


def embed(engine: Engine, job: EmbeddingJob, embedder: Embedder) -> list[Outcome]:
    return list(engine.run(job, embedder, pairs(job)))


def pairs(job: EmbeddingJob) -> Iterator[Pair]:
    known = job.store().known(job.space)
    for _, item, row in joined(catalog.read(job.folder).items(), known):
        if item is not None:
            yield replace(item, summary=f"What {item.title} shows."), row


def rows(root: Path, embedder: Embedder) -> pa.Table:
    """The latest row of each id, without the time of writing."""
    return parts.latest(root, vector_view(embedder.space)).drop_columns("created")


def totals(outcomes: list[Outcome]) -> tuple[int, int, list[tuple[str, str]], list[str]]:
    return (
        sum(one.num_embedded for one in outcomes),
        sum(one.num_unchanged for one in outcomes),
        sorted((reject.key, reject.reason) for one in outcomes for reject in one.rejects),
        sorted(item_id for one in outcomes for item_id in one.lost_ids),
    )


def workers() -> set[int]:
    """The workers' processes among this one's descendants."""
    parents: dict[int, int] = {}
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if command.startswith(WORKER):
            found.add(int(path.name))
    return {pid for pid in found if _descends(pid, parents)}


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid == os.getpid()


def test_an_address_without_a_cluster_is_named(folder: Path, tmp_path: Path, hog: Embedder) -> None:
    open_engine(ON_RAY)  # while it is imported, Ray learns to keep to the loopback
    engine = open_engine(replace(ON_RAY, ray_address="127.0.0.1:1"))
    with pytest.raises(ConnectionError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        embed(engine, job(folder, tmp_path, hog), hog)


def test_without_ray_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "sommelier.embedding.engine_ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs ray: pip install 'sommelier\[ray\]'"):
        open_engine(ON_RAY)


def test_ray_writes_the_rows_that_one_process_writes(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    alone = embed(LocalEngine(), job(folder, tmp_path / "local", hog), hog)
    many = embed(open_engine(ON_RAY), job(folder, tmp_path / "ray", hog), hog)
    assert totals(alone) == totals(many)
    assert totals(many)[0] == NUM_ITEMS - 3
    assert [key for key, _ in totals(many)[2]] == ["item-0040"]
    # Pictures are encoded one by one, so that even the last bit is the same.
    assert rows(tmp_path / "ray", hog).equals(rows(tmp_path / "local", hog))


def test_a_second_run_does_what_is_new_and_nothing_else(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    for name, engine in (("local", LocalEngine()), ("ray", open_engine(ON_RAY))):
        first = job(folder, tmp_path / name, hog)
        embed(LocalEngine(), first, hog)
        store = Store(tmp_path / name)
        store.delete(["item-0001"], at=NOW)
        vector = store.read(hog.space)
        store.write(  # these two changed since: one hash is another, one has lost its picture
            replace(vector, item_ids=["item-0002", "item-0007"], vectors_ND=vector.vectors_ND[:2]),
            content_hashes=["other", "other"],
            event_timestamps=[NOW, EPOCH],
        )
        outcomes = embed(engine, replace(first, now=NOW + timedelta(days=1)), hog)
        assert totals(outcomes)[:2] == (2, NUM_ITEMS - 5)
        assert totals(outcomes)[3] == ["item-0007"]
    assert rows(tmp_path / "ray", hog).equals(rows(tmp_path / "local", hog))
    assert DELETED not in rows(tmp_path / "ray", hog)["content_hash"].to_pylist()


@pytest.mark.parametrize("config", [TEXT, SUMMARY], ids=["words", "summaries"])
def test_texts_are_the_same_within_rounding_and_known_ones_stay_here(
    cluster: None, folder: Path, tmp_path: Path, config: EncoderConfig
) -> None:
    embedder = registry.create(config, catalog=None)
    for name, engine in (("local", LocalEngine()), ("ray", open_engine(ON_RAY))):
        outcomes = embed(engine, job(folder, tmp_path / name, embedder, config), embedder)
        assert totals(outcomes)[0] == NUM_ITEMS
    alone, many = (Store(tmp_path / name).read(embedder.space) for name in ("local", "ray"))
    assert alone.item_ids == many.item_ids
    # A worker has as many threads as CPUs, and sums of floats depend on how they are divided.
    np.testing.assert_allclose(many.vectors_ND, alone.vectors_ND, atol=1e-6)
    seen: list[int] = []
    again = job(folder, tmp_path / "ray", embedder, config)
    engine = open_engine(ON_RAY)
    outcomes = list(engine.run(again, embedder, pairs(again), on_progress=seen.append))
    assert outcomes == [Outcome(num_embedded=0, num_unchanged=NUM_ITEMS)]
    assert seen[-1] == NUM_ITEMS


def test_an_adapter_travels_to_the_workers(folder: Path, cluster: None, tmp_path: Path) -> None:
    plain = EncoderConfig(
        modality=Modality.TEXT, encoder="auto", model=str(bert(tmp_path / "bert"))
    )
    adapter = saved(plain, "prefix", text_items(), tmp_path / "adapter")
    config = replace(plain, adapter=adapter)
    embedder = registry.create(config, catalog=None)
    outcomes = {
        name: embed(engine, job(folder, tmp_path / name, embedder, config), embedder)
        for name, engine in (("ray", open_engine(ON_RAY)), ("local", LocalEngine()))
    }
    assert totals(outcomes["ray"]) == totals(outcomes["local"])
    found, expected = (rows(tmp_path / name, embedder) for name in ("ray", "local"))
    assert found["item_id"] == expected["item_id"]
    vectors = [np.stack(table["vector"].to_numpy()) for table in (found, expected)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_progress_never_goes_down_and_ends_with_every_item(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    seen: list[int] = []
    first = job(folder, tmp_path, hog)
    for _ in open_engine(ON_RAY).run(first, hog, pairs(first), on_progress=seen.append):
        assert seen
    assert seen == sorted(seen)
    assert seen[-1] == NUM_ITEMS


def test_a_worker_with_other_weights_is_refused(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    other = job(folder, tmp_path, hog)
    other = replace(other, space=replace(other.space, revision="2"))
    with pytest.raises(ValueError, match="install the same weights and versions everywhere"):
        embed(open_engine(ON_RAY), other, hog)


def test_a_killed_worker_costs_nothing_but_time(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    embed(LocalEngine(), job(folder, tmp_path / "local", hog), hog)
    small = replace(job(folder, tmp_path / "ray", hog), batch_rows=1)
    killed: set[int] = set()
    outcomes = []
    for outcome in open_engine(ON_RAY).run(small, hog, pairs(small)):
        outcomes.append(outcome)
        if not killed:
            killed = workers()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
    assert killed
    assert totals(outcomes)[0] == NUM_ITEMS - 3
    assert rows(tmp_path / "ray", hog).equals(rows(tmp_path / "local", hog))


def test_workers_that_die_again_and_again_fail_the_run_and_the_next_one_completes_it(
    cluster: None, folder: Path, tmp_path: Path, hog: Embedder
) -> None:
    embed(LocalEngine(), job(folder, tmp_path / "local", hog), hog)
    small = replace(job(folder, tmp_path / "ray", hog), batch_rows=1)
    is_over = Event()

    def kill() -> None:
        while not is_over.is_set():
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    killer = Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(OSError, match="the Ray cluster could not finish"):
            embed(open_engine(ON_RAY), small, hog)
    finally:
        is_over.set()
        killer.join()
    embed(open_engine(ON_RAY), small, hog)
    assert rows(tmp_path / "ray", hog).equals(rows(tmp_path / "local", hog))


def test_the_command_starts_a_cluster_of_its_own_and_ends_it(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "sommelier.toml").write_text(
        f'[catalog]\npath = "{folder}"\n[[encoders]]\nmodality = "image"\nencoder = "hog"\n'
    )
    import ray

    ray.shutdown()
    words = ("embed", "--settings", tmp_path / "sommelier.toml", "--engine", "ray")
    result = run(*words)
    assert result.exit_code == 0, result.output + result.stderr
    assert len(Store(tmp_path / "store").read(registry.create(HOG, catalog=None).space)) == 117
    assert not ray.is_initialized()
