"""Worker processes behind a real server: the same answers, and what happens when one dies."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from feature_repo.base import Unreachable
from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.process import Process, WorkerFailed
from ranker.service.processes import Launch, processes
from ranker.service.server import RankerServer, running, serve
from tests.child import child
from tests.ranker import served_processes
from tests.ranker.process_world import FATAL_TEXT, LOADER, NOT_YET
from tests.ranker.serving_world import TableServing

PATIENCE_S = 120
ADA = pb.User(user_id="ada")


def launch(**arguments: Any) -> Launch:
    return Launch(loader=LOADER, arguments=arguments)


def rerank(*item_ids: str, user: pb.User = ADA, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=user, item_ids=item_ids, **more)


def held(*item_ids: str, **more: Any) -> pb.RerankRequest:
    return rerank(*item_ids, behavior="purchase", **more)


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.005)


def children() -> set[int]:
    """This process's, a zombie too."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def served(num: int, **arguments: Any) -> Iterator[tuple[RankerServer, Any]]:
    """A server over so many worker processes, in a thread of its own, and a stub of it."""
    with (
        served_processes.served(launch(**arguments), num=num) as (server, _),
        grpc.insecure_channel(server.address) as channel,
    ):
        yield server, pb_grpc.RankerServiceStub(channel)


def pid_of(answer: Any) -> int:
    return int(answer.judged_by)


def entered(folder: Path, number: int = 0) -> list[int]:
    """The processes that hold a request before this pass."""
    return [int(path.name.split("-")[2]) for path in folder.glob(f"pass-{number}-*")]


def told_of(pids: list[int], variable: str) -> list[str | None]:
    """What the processes' environments say, as they were started."""
    found = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        found.append(dict(line.partition("=")[::2] for line in lines).get(variable))
    return found


def reason(error: Any) -> str:
    info = details_pb2.ErrorInfo()
    [packed] = [one for one in rpc_status.from_call(error).details if one.Is(info.DESCRIPTOR)]
    packed.Unpack(info)
    return str(info.reason)


def ranked(answer: Any) -> list[tuple[Any, ...]]:
    return [(one.item_id, one.rank, one.score, one.logit, one.status) for one in answer.items]


def test_any_number_of_processes_answers_as_this_one_does() -> None:
    requests = [
        rerank("d", "a", "e", "c", "b", "zz"),
        rerank("a", "b", explain=True),
        rerank("c", "b", "a", user=pb.User(history=pb.History())),
    ]
    recommend = pb.RecommendRequest(user=ADA, top_k=3)

    def asked(stub: Any) -> list[Any]:
        stream = pb.StreamRerankRequest(rerank=requests[0])
        return [
            *(ranked(stub.Rerank(one, timeout=PATIENCE_S)) for one in requests),
            ranked(stub.Recommend(recommend, timeout=PATIENCE_S)),
            [
                (step.is_final, ranked(step.ranking))
                for step in stub.StreamRerank(stream, timeout=PATIENCE_S)
            ],
            stub.GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S),
        ]

    with running(TableServing()) as server, grpc.insecure_channel(server.address) as channel:
        expected = asked(pb_grpc.RankerServiceStub(channel))
    assert [len(one) for one in expected[:4]] == [6, 2, 3, 3]
    for num in (1, 2):
        with served(num) as (_, stub):
            assert asked(stub) == expected


def test_what_workers_did_is_told_by_the_servers_metrics(tmp_path: Path) -> None:
    with served(2, folder=str(tmp_path)) as (server, stub), ThreadPoolExecutor() as pool:
        users = [pb.User(user_id="ada"), pb.User(history=pb.History())]
        calls = [pool.submit(stub.Rerank, held("a", "b", user=user)) for user in users]
        until(lambda: len(entered(tmp_path)) == 2)
        (tmp_path / "go").touch()
        for call in calls:
            call.result(timeout=PATIENCE_S)
        value = server.metrics.registry.get_sample_value
        until(lambda: value("sommelier_cache_hits_total", {"cache": "prefix"}) == 6)
        assert value("sommelier_cache_bytes", {"cache": "prefix"}) == 200
        assert value("sommelier_workers", {"state": "alive"}) == 2
        for stage in ("queue", "retrieve", "rerank", "total"):
            labels = {"method": "Rerank", "stage": stage}
            assert value("sommelier_latency_seconds_count", labels) == 2
        assert value("sommelier_candidates_sum", {"method": "Rerank"}) == 4


def test_a_killed_worker_takes_its_call_along_and_the_next_is_answered(tmp_path: Path) -> None:
    with served(1, folder=str(tmp_path)) as (server, stub), ThreadPoolExecutor() as pool:
        call = pool.submit(stub.Rerank, held("a", "b"), timeout=PATIENCE_S)
        until(lambda: len(entered(tmp_path)) == 1)
        [pid] = entered(tmp_path)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        error: Any = caught.value
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "WORKER_DIED")
        answer = stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S)
        assert [item.item_id for item in answer.items] == ["b", "a"]
        assert pid_of(answer) != pid
        registry = server.metrics.registry
        assert registry.get_sample_value("sommelier_worker_deaths_total") == 1
        assert registry.get_sample_value("sommelier_workers", {"state": "alive"}) == 1


def test_a_request_that_workers_die_of_is_set_aside_and_others_are_answered() -> None:
    with served(2) as (_, stub):
        found = []
        for n in range(5):  # as a caller does who tries again, with another id each time
            fatal = rerank("a", "b", text=FATAL_TEXT, request_id=f"try-{n}")
            with pytest.raises(grpc.RpcError) as caught:
                stub.Rerank(fatal, timeout=PATIENCE_S)
            error: Any = caught.value
            found.append((error.code().name, reason(error)))
        assert found[:3] == [("UNAVAILABLE", "WORKER_DIED")] * 3
        assert found[3:] == [("INTERNAL", "REQUEST_SET_ASIDE")] * 2
        assert len(stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S).items) == 2


def test_without_any_worker_the_server_is_not_well_until_one_has_loaded(tmp_path: Path) -> None:
    told = health_pb2.HealthCheckResponse
    with (
        served(1, folder=str(tmp_path)) as (server, stub),
        grpc.insecure_channel(server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def is_told(status: int) -> bool:
            names = ("", "sommelier.ranker.v1.RankerService")
            asked = [health_pb2.HealthCheckRequest(service=name) for name in names]
            return {health.Check(one, timeout=PATIENCE_S).status for one in asked} == {status}

        assert is_told(told.SERVING)
        pid = pid_of(stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S))
        (tmp_path / NOT_YET).touch()
        os.kill(pid, signal.SIGKILL)
        until(lambda: is_told(told.NOT_SERVING))
        (tmp_path / NOT_YET).unlink()
        until(lambda: is_told(told.SERVING))
        assert pid_of(stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S)) != pid


def test_the_other_workers_go_on(tmp_path: Path) -> None:
    with served(2, folder=str(tmp_path)) as (server, stub), ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(stub.Rerank, held("a", item_id), timeout=PATIENCE_S) for item_id in "bc"
        ]
        until(lambda: len(entered(tmp_path)) == 2)
        os.kill(entered(tmp_path)[0], signal.SIGKILL)
        until(lambda: any(call.done() for call in calls))
        (tmp_path / "go").touch()
        [died] = [call for call in calls if call.exception() is not None]
        [went_on] = [call for call in calls if call is not died]
        assert reason(died.exception()) == "WORKER_DIED"
        assert len(went_on.result().items) == 2
        registry = server.metrics.registry
        until(lambda: registry.get_sample_value("sommelier_workers", {"state": "alive"}) == 2)


def test_who_cancels_lets_the_worker_stop_before_its_next_pass(tmp_path: Path) -> None:
    with served(1, folder=str(tmp_path)) as (server, stub):
        call = stub.Rerank.future(held("a", "b", "c"), timeout=PATIENCE_S)
        until(lambda: len(entered(tmp_path)) == 1)
        assert call.cancel()
        until(lambda: server.metrics.registry.get_sample_value("sommelier_under_way") == 0)
        time.sleep(0.2)  # the worker is told while it computes
        (tmp_path / "go").touch()
        answer = stub.Rerank(rerank("a"), timeout=PATIENCE_S)
        assert [pid_of(answer)] == entered(tmp_path)
        assert entered(tmp_path, number=1) == []


def test_a_deadline_that_passes_stops_the_worker_and_one_that_is_later_goes_on(
    tmp_path: Path,
) -> None:
    with served(1, folder=str(tmp_path)) as (server, stub), ThreadPoolExecutor() as pool:
        hasty = pool.submit(stub.Rerank, held("a", "b", "c"), timeout=1.0)
        until(lambda: len(entered(tmp_path)) == 1)
        patient = pool.submit(stub.Rerank, held("a", "b", "c"), timeout=PATIENCE_S)
        registry = server.metrics.registry
        until(lambda: registry.get_sample_value("sommelier_coalesced_total") == 1)
        assert hasty.exception() is not None
        time.sleep(0.05)
        (tmp_path / "go").touch()
        assert len(patient.result().items) == 3


def test_a_user_goes_to_the_worker_that_served_them_last_if_it_is_free() -> None:
    users = [pb.User(user_id="ada"), pb.User(history=pb.History()), pb.User(user_id="ada")]
    with served(2) as (_, stub):
        for user in users:
            pids = {
                pid_of(stub.Rerank(rerank("a", "b", user=user), timeout=PATIENCE_S))
                for _ in range(4)
            }
            assert len(pids) == 1


def test_what_goes_wrong_in_a_worker_is_told_as_if_it_were_here() -> None:
    with served(1) as (_, stub):
        for request, code, told in (
            (rerank("a", user=pb.User(user_id="bob")), grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"),
            (rerank("a", behavior="x"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Rerank(request, timeout=PATIENCE_S)
            error: Any = caught.value
            assert (error.code(), reason(error)) == (code, told)


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("value", WorkerFailed, "run `sommelier publish`"),
        ("store", Unreachable, "the online store does not answer"),
        ("exit", WorkerFailed, "died while it loaded"),
        ("pid", WorkerFailed, "loaded different generations"),
    ],
)
def test_a_worker_that_cannot_load_says_why(fault: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        asyncio.run(processes(launch(fault=fault), num=2))


def test_a_worker_given_up_twice_while_it_loads_is_ended(tmp_path: Path) -> None:
    (tmp_path / NOT_YET).touch()

    async def given_up() -> None:
        before = children()
        start = Process.start(
            loader=LOADER, arguments={"folder": str(tmp_path)}, limits=ServiceLimits()
        )
        starting = asyncio.create_task(start)
        while children() == before:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)  # it waits for the child's word now
        starting.cancel()
        await asyncio.sleep(0)  # it ends the child now
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert children() == before

    asyncio.run(given_up())


def test_no_number_of_processes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one process"):
        asyncio.run(processes(launch(), num=0))


def test_closing_leaves_no_process_behind() -> None:
    async def live() -> list[int]:
        backend = await processes(launch(), num=2)
        pids = backend.pids
        await backend.close()
        return pids

    pids = asyncio.run(live())
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


def test_workers_end_with_a_server_that_was_killed() -> None:
    program = (
        "import asyncio, json, time\n"
        "from ranker.service.processes import Launch, processes\n"
        "async def live():\n"
        f"    backend = await processes(Launch(loader={LOADER!r}, arguments={{}}), num=2)\n"
        "    print(json.dumps(backend.pids), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(live())\n"
    )
    with child([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        pids = json.loads(server.stdout.readline())
        assert all(map(is_alive, pids))
        server.kill()
    until(lambda: not any(map(is_alive, pids)))


def test_each_worker_has_its_own_environment_and_leaves_it_to_whoever_takes_its_place() -> None:
    each = [{"CUDA_VISIBLE_DEVICES": name} for name in ("7", "GPU-5e1d")]
    among = Launch(loader=LOADER, arguments={}, environments=each)
    with served_processes.served(among, num=3) as (_, backend):
        assert sorted(map(str, told_of(backend.pids, "CUDA_VISIBLE_DEVICES"))) == [
            "7",
            "7",
            "GPU-5e1d",
        ]
        assert told_of(backend.pids, "PATH") == [os.environ["PATH"]] * 3
        [place] = [
            at
            for at, name in enumerate(told_of(backend.pids, "CUDA_VISIBLE_DEVICES"))
            if name != "7"
        ]
        gone = backend.pids[place]
        os.kill(gone, signal.SIGKILL)
        until(lambda: len(backend.pids) == 3 and gone not in backend.pids)
        assert sorted(map(str, told_of(backend.pids, "CUDA_VISIBLE_DEVICES"))) == [
            "7",
            "7",
            "GPU-5e1d",
        ]


def test_a_signal_to_all_leaves_the_end_of_the_workers_to_their_server() -> None:
    with served(1) as (_, stub):
        pid = pid_of(stub.Rerank(rerank("a"), timeout=PATIENCE_S))
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert pid_of(stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S)) == pid


def test_a_server_of_processes_imports_no_model_library() -> None:
    program = (
        "import sys, ranker.service.server, ranker.service.processes\n"
        "print(sorted({'torch', 'transformers', 'faiss', 'duckdb'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_calls_beyond_the_line_are_refused_whatever_computes(tmp_path: Path) -> None:
    async def live() -> str:
        backend = await processes(
            launch(folder=str(tmp_path)), num=1, limits=ServiceLimits(queue=0)
        )
        server = await serve(backend, config=ServerConfig(port=0), limits=ServiceLimits(queue=0))
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = pb_grpc.RankerServiceStub(channel)
            first = asyncio.ensure_future(stub.Rerank(held("a"), timeout=PATIENCE_S))
            while not entered(tmp_path):
                await asyncio.sleep(0.005)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Rerank(rerank("b"), timeout=PATIENCE_S)
            (tmp_path / "go").touch()
            await first
        await server.stop(grace_s=0)
        return str(caught.value.code().name)

    assert asyncio.run(live()) == "RESOURCE_EXHAUSTED"


def test_an_anytime_call_that_finds_no_worker_free_is_answered_beside_the_work(
    tmp_path: Path,
) -> None:
    with served(1, folder=str(tmp_path)) as (_, stub), ThreadPoolExecutor() as pool:
        busy = pool.submit(stub.Rerank, held("a", "b"), timeout=PATIENCE_S)
        until(lambda: len(entered(tmp_path)) == 1)
        hurried = rerank("c", "b", "zz", anytime=True)
        steps = pb.StreamRerankRequest(rerank=hurried)
        answer = stub.Rerank(hurried, timeout=1)
        [step] = stub.StreamRerank(steps, timeout=1)
        unknown = rerank("c", anytime=True, user=pb.User(user_id="bob"))
        with pytest.raises(grpc.RpcError) as refused:
            stub.Rerank(unknown, timeout=1)
        assert reason(refused.value) == "UNKNOWN_USER"
        (tmp_path / "go").touch()
        busy.result(timeout=PATIENCE_S)
        assert not stub.Rerank(hurried, timeout=PATIENCE_S).degraded
    assert answer.degraded
    assert [one[:3:2] for one in ranked(answer)] == [
        ("b", ranked(step.ranking)[0][2]),
        ("c", ranked(step.ranking)[1][2]),
        ("zz", 0.0),
    ]
    assert {item.status for item in answer.items[:2]} == {pb.ITEM_STATUS_NOT_SCORED}
    assert step.is_final
    assert step.ranking.degraded
