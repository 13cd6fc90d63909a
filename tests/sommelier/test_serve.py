"""A published generation answers over gRPC as it does in this process."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ranker.answers import RankerError
from ranker.client import RankerClient
from ranker.generation import MANIFEST, Generations
from ranker.loaded import LoadedGeneration
from ranker.ranking import Status
from ranker.service.processes import Launch, processes
from ranker.service.server import RankerServer, running
from sommelier.ask import Wish, asked, from_server, here, last, there
from sommelier.commented import commented
from sommelier.serve import LOADER, in_processes, loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.child import child
from tests.sommelier.conftest import Run

USER = "user-0003"
ITEMS = ("box-0004", "box-0002", "nothing", "box-0009")

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture(scope="module")
def serving(built: Path) -> LoadedGeneration:
    return loaded(Workspace(load(built)), watch=Unwatched())


@pytest.fixture(scope="module")
def server(serving: LoadedGeneration) -> Iterator[RankerServer]:
    with running(serving) as started:
        yield started


def wish(user_id: str = USER, *, item_ids: tuple[str, ...] = (), **words: Any) -> Wish:
    query = asked(user_id, **words)
    return Wish(query=query, item_ids=item_ids, top_k=0 if item_ids else 10, num_candidates=100)


def test_a_remote_answer_is_the_local_one(serving: LoadedGeneration, server: RankerServer) -> None:
    explained = Wish(query=asked(USER), top_k=10, num_candidates=100, explain=True)
    local = last(here(serving, explained))
    remote = from_server(server.address, explained, timeout_s=30)
    assert remote.lines == local.lines
    for line in remote.lines:
        assert line.explanation is not None
        total = line.explanation.base + sum(line.explanation.contributions.values())
        assert total == pytest.approx(line.score, rel=1e-9, abs=1e-9)
    assert remote.generation_id == local.generation_id == "g-000001"
    assert remote.source == server.address


def test_reranking_brought_items_agrees_too(
    serving: LoadedGeneration, server: RankerServer
) -> None:
    explained = Wish(query=asked(USER), item_ids=ITEMS, explain=True)
    local = last(here(serving, explained))
    assert from_server(server.address, explained, timeout_s=30).lines == local.lines
    assert [line.explanation is None for line in local.lines] == [False, False, False, True]
    assert [line.item_id for line in local.lines][-1] == "nothing"


@pytest.mark.parametrize("item_ids", [(), ITEMS])
@pytest.mark.parametrize(
    "words",
    [
        {"conditions": ["category=duo"], "deny": ["box-0009"]},
        {"weights": ["text=3", "graph=0"]},
        {"recent": ["view=box-0010", "view=box-0011"]},
        {"text": "somebody who likes what is loud"},
    ],
)
def test_every_wish_is_answered_alike_with_a_server_and_without(
    serving: LoadedGeneration,
    server: RankerServer,
    words: dict[str, Any],
    item_ids: tuple[str, ...],
) -> None:
    wished = wish(item_ids=item_ids, **words)
    local = last(here(serving, wished))
    assert from_server(server.address, wished, timeout_s=30).lines == local.lines
    assert local.lines != last(here(serving, wish(item_ids=item_ids))).lines or "text" in words


def test_what_a_filter_excludes_comes_last_and_says_so(serving: LoadedGeneration) -> None:
    reply = last(here(serving, wish(item_ids=ITEMS, deny=["box-0009"])))
    assert {line.item_id: line.status for line in reply.lines[-2:]} == {
        "box-0009": Status.FILTERED,
        "nothing": Status.UNKNOWN_ITEM,
    }


def test_steps_lead_to_the_answer(serving: LoadedGeneration, server: RankerServer) -> None:
    wished = Wish(query=asked(USER), item_ids=ITEMS, in_steps=True)
    with RankerClient(server.address, timeout_s=30) as client:
        remote = list(there(client, wished))
    local = list(here(serving, wished))
    for steps in (remote, local):
        assert [one.is_final for one in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[0].judged_by == "retrieval_order"
        assert not steps[-1].is_degraded
    assert remote[-1].lines == local[-1].lines


def test_a_ranker_that_was_not_asked_about_behaviors_cannot_be(
    serving: LoadedGeneration, server: RankerServer
) -> None:
    told = "foresees any choice alike"
    wished = wish(behavior="purchase", item_ids=("box-0004",))
    with pytest.raises(ValueError, match=told):
        last(here(serving, wished))
    with pytest.raises(RankerError, match=told):
        from_server(server.address, wished, timeout_s=30)


def test_an_unknown_user_is_told(serving: LoadedGeneration, server: RankerServer) -> None:
    with pytest.raises(RankerError, match="UNKNOWN_USER"):
        from_server(server.address, wish("nobody"), timeout_s=30)
    with pytest.raises(ValueError, match="knows no user 'nobody'"):
        last(here(serving, wish("nobody")))


def test_nothing_of_the_users_past_is_recommended(serving: LoadedGeneration) -> None:
    reply = last(here(serving, Wish(query=asked(USER), top_k=60, num_candidates=60)))
    met = {event.item_id for event in serving.history(USER) or ()}
    assert met
    assert not met & {line.item_id for line in reply.lines}


def test_worker_processes_answer_bit_for_bit_as_this_process_does(
    built: Path, serving: LoadedGeneration
) -> None:
    workspace = Workspace(load(built, overrides=["server.processes=2"]))
    explained = Wish(query=asked(USER), item_ids=ITEMS, explain=True)
    local = last(here(serving, explained))
    with running(in_processes(workspace, "g-000001")) as server:
        for _ in range(2):
            assert from_server(server.address, explained, timeout_s=30).lines == local.lines


def test_a_generation_that_is_not_there_is_told(built: Path) -> None:
    workspace = Workspace(load(built, overrides=["server.processes=1"]))
    with pytest.raises(ValueError, match="g-000099"):
        asyncio.run(in_processes(workspace, "g-000099"))


def test_a_gpu_that_is_not_there_is_refused_before_any_worker_is_started(built: Path) -> None:
    overrides = ["server.processes=1", 'server.devices=["cuda:9999"]']
    workspace = Workspace(load(built, overrides=overrides))
    with pytest.raises(ValueError, match=r"server\.devices names cuda:9999, and the GPUs"):
        asyncio.run(in_processes(workspace, "g-000001"))


def test_a_torch_that_does_not_see_the_gpu_is_told_instead_of_using_the_cpu(
    built: Path,
) -> None:
    settings = load(built, overrides=["server.processes=1", 'server.devices=["cuda:0"]'])
    arguments = {"settings": commented(settings), "generation_id": "g-000001"}
    hidden = Launch(loader=LOADER, arguments=arguments, environments=[{"CUDA_VISIBLE_DEVICES": ""}])
    with pytest.raises(ValueError, match="install a torch with CUDA"):
        asyncio.run(processes(hidden, num=1))


def test_the_command_serves_from_processes_without_a_model_library_of_its_own(
    built: Path,
) -> None:
    settings = ["--settings", str(built), "--set", "server.processes=1", "--set", "server.port=0"]
    with child(
        [sys.executable, "-m", "sommelier", "serve", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        assert command.stdout is not None
        told = next(line for line in command.stdout if "listening on" in line)
        address = told.split("listening on ")[1].split(";")[0]
        reply = from_server(address, wish(), timeout_s=30)
        mapped = Path(f"/proc/{command.pid}/maps").read_text()
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=60) == 0
    assert len(reply.lines) == 10
    assert "libtorch" not in mapped
    assert "grpc" in mapped


def test_the_command_answers_over_http_and_logs_each_request_as_an_object(built: Path) -> None:
    said = ["port=0", "rest_port=0", "log_requests=true", 'log_format="json"']
    settings = [word for one in said for word in ("--set", f"server.{one}")]
    with child(
        [sys.executable, "-m", "sommelier", "serve", "--settings", str(built), *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        told = next(line for line in command.stdout if "HTTP on" in line)
        url = told.split("HTTP on ")[1].split("/docs")[0]
        body = {"query": USER, "documents": list(ITEMS), "request_id": "r1"}
        answer = httpx.post(f"{url}/v1/rerank", json=body, headers={"x-timeout-ms": "30000"})
        command.send_signal(signal.SIGTERM)
        _, logged = command.communicate(timeout=60)
        assert command.returncode == 0
    assert len(answer.raise_for_status().json()["results"]) == 4
    [line] = [line for line in logged.splitlines() if "ranker.requests" in line]
    request = json.loads(line)
    assert (request["request_id"], request["protocol"], request["code"]) == ("r1", "http", "OK")
    assert (request["items"], request["scored"]) == (4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [0, 2])
def test_a_roll_back_by_command_is_followed_by_the_server(
    num_processes: int, run: Run, copy_of_built: Path
) -> None:
    generations = Generations(load(copy_of_built).paths.generations)
    shutil.copytree(generations.root / "g-000001", generations.root / "g-000002")
    manifest = generations.root / "g-000002" / MANIFEST
    manifest.write_text(manifest.read_text().replace("g-000001", "g-000002"))
    generations.point("g-000002")
    settings = ["--settings", str(copy_of_built), "--set", "server.port=0"]
    settings += ["--set", "server.follow_s=0.2", "--set", f"server.processes={num_processes}"]
    with child(
        [sys.executable, "-m", "sommelier", "serve", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        assert command.stdout is not None
        told = next(line for line in command.stdout if "listening on" in line)
        address = told.split("listening on ")[1].split(";")[0]
        with RankerClient(address, timeout_s=30) as client:
            assert client.info().generation_id == "g-000002"
            result = run("rollback", "--settings", copy_of_built)
            assert result.exit_code == 0, result.stderr
            give_up = time.monotonic() + 60
            while client.info().generation_id != "g-000001":
                assert time.monotonic() < give_up
                time.sleep(0.05)
            assert client.recommend(user_id=USER).generation_id == "g-000001"
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=60) == 0
