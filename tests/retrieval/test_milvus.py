"""An index on a Milvus server keeps the contract, and says clearly what fails."""

import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from embedders.vectors import normalize
from retrieval import milvus, milvus_collection
from retrieval.base import UnusableIndex
from retrieval.exact import ExactIndex
from retrieval.milvus import MilvusIndex
from retrieval.milvus_server import MilvusServer
from retrieval.registry import create, load
from tests.retrieval import index_contract
from tests.retrieval.index_contract import AXES, IndexContract, world
from tests.retrieval.milvus_process import MilvusProcess

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    process = MilvusProcess(tmp_path_factory.mktemp("milvus"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def _asked(process: MilvusProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract's indexes lie on the tests' own server."""
    monkeypatch.setattr(index_contract, "create", partial(create, server=process.address))
    monkeypatch.setattr(index_contract, "load", partial(load, server=process.address))


class TestMilvusIndex(IndexContract):
    kind = "milvus"


class TestMilvusGraph(IndexContract):
    kind = "milvus"
    least_recall = 0.99

    @pytest.fixture(autouse=True)
    def _graph(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many items have."""
        monkeypatch.setattr(milvus, "FLAT_ITEMS", 0)


def filled(server: MilvusServer, num_items: int = 3000) -> MilvusIndex:
    index = MilvusIndex(dim=24, server=server)
    index.add(world()[0][:num_items], world()[1][:num_items])
    return index


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_filters_that_name_many_rows_go_in_several_searches(
    process: MilvusProcess, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(milvus, "MAX_NAMED", 200)
    allowed = np.random.default_rng(0).random(3000) < share
    exact = ExactIndex(dim=24)
    exact.add(*world()[:2])
    queries = world()[2]
    index = filled(process.address)
    assert index.search(queries, limit=30, allowed_N=allowed) == exact.search(
        queries, limit=30, allowed_N=allowed
    )


def test_what_does_not_fit_into_one_message_goes_in_several(
    process: MilvusProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = filled(process.address).search(world()[2], limit=20)
    monkeypatch.setattr(milvus_collection, "MAX_BYTES", 10_000)
    assert filled(process.address).search(world()[2], limit=20) == expected


def test_a_greater_effort_finds_no_less(
    process: MilvusProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "FLAT_ITEMS", 0)
    index = filled(process.address)
    assert index.effort in index.efforts
    least, most = (index.search(world()[2], limit=5, effort=one) for one in (1, 2048))
    assert all(a[-1][1] <= b[-1][1] for a, b in zip(least, most, strict=True))


def test_items_that_another_index_added_to_the_collection_are_not_found(
    process: MilvusProcess, tmp_path: Path
) -> None:
    index = filled(process.address)
    index.save(tmp_path / "index")
    other = MilvusIndex.load(tmp_path / "index", server=process.address)
    other.add(["late"], 5 * world()[2][:1])
    assert other.search(world()[2][:1], limit=1)[0][0][0] == "late"
    found = index.search(world()[2][:1], limit=3000)[0]
    assert len(found) == 3000
    assert "late" not in dict(found)


def answered(index: MilvusIndex) -> object:
    """The answer, once the client has found its way back: it waits longer after each failure."""
    for _ in range(100):
        try:
            return index.search(world()[2], limit=5)
        except UnusableIndex:
            time.sleep(0.3)
    return "the server was not found again"


def test_a_server_that_is_gone_is_said_and_one_that_is_back_answers(
    process: MilvusProcess, tmp_path: Path
) -> None:
    index = filled(process.address)
    expected = index.search(world()[2], limit=5)
    index.save(tmp_path / "index")
    process.stop()
    for ask in (
        lambda: index.search(world()[2], limit=5),
        lambda: index.add(["late"], world()[1][:1]),
        lambda: MilvusIndex.load(tmp_path / "index"),
        lambda: filled(process.address),
    ):
        with pytest.raises(UnusableIndex, match=r"server at http://127.0.0.1:\d+ failed to"):
            ask()
    process.start()
    assert answered(index) == expected
    index.add(["late"], world()[1][:1])
    assert len(index) == 3001
    loaded = MilvusIndex.load(tmp_path / "index")
    assert loaded.search(world()[2], limit=5) == expected


def test_a_server_that_does_not_answer_is_not_waited_for_beyond_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = MilvusServer(uri=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5)
        with pytest.raises(UnusableIndex, match="failed to connect"):
            filled(address)


def test_a_collection_that_was_dropped_or_lost_items_is_said(
    process: MilvusProcess, tmp_path: Path
) -> None:
    index = filled(process.address, 10)
    index.save(tmp_path / "index")
    index._item_ids.append("never written")
    index.save(tmp_path / "more")
    with pytest.raises(UnusableIndex, match=r"names 11 items, but .* holds 10: run `sommelier"):
        MilvusIndex.load(tmp_path / "more")
    index.drop()
    with pytest.raises(UnusableIndex, match=r"which is gone: run `sommelier index`"):
        MilvusIndex.load(tmp_path / "index")


def test_a_file_keeps_no_secret(process: MilvusProcess, tmp_path: Path) -> None:
    address = MilvusServer(uri=process.address.uri, token="root:secret", timeout_s=60)
    index = MilvusIndex(dim=3, server=address)
    index.add(["a"], AXES[:1])
    index.save(tmp_path / "index")
    assert b"secret" not in (tmp_path / "index").read_bytes()
    assert "secret" not in repr(address)


@pytest.mark.parametrize("uri", ["milvus:19530", "http://owner:secret@host:1", "ftp://host:1", ""])
def test_an_address_of_another_form_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ValueError, match="http://host:port") as caught:
        MilvusServer(uri=uri)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="timeout_s must be positive"):
        MilvusServer(timeout_s=0)


def test_more_than_a_server_proposes_is_refused(
    process: MilvusProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "MAX_ROWS", 50)
    index = filled(process.address, 60)
    with pytest.raises(ValueError, match="at most 50 items, got a limit of 51"):
        index.search(world()[2], limit=51)
    assert len(index.search(normalize(world()[2]), limit=50)[0]) == 50
