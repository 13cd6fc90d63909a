"""The server around the service: ports, health, reflection, metrics, and how it stops."""

import asyncio
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.server import PortInUseError, RankerServer, run_until_signal, running, serve
from tests.ranker.serving_world import TableServing

SERVICE = "sommelier.ranker.v1.RankerService"
PATIENCE_S = 10
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a", "b"])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def rerank(address: str) -> Any:
    with grpc.insecure_channel(address) as channel:
        return pb_grpc.RankerServiceStub(channel).Rerank(REQUEST, timeout=PATIENCE_S)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return str(page.read().decode())


def test_a_running_server_answers_on_a_free_port_of_the_loopback() -> None:
    with running(TableServing()) as server:
        assert server.address == f"127.0.0.1:{server.port}"
        assert server.port > 0
        assert len(rerank(server.address).items) == 2


def test_a_server_can_be_awaited_within_a_running_loop() -> None:
    async def live() -> int:
        server = await serve(TableServing(), config=ServerConfig(port=0))
        try:
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = pb_grpc.RankerServiceStub(channel)
                return len((await stub.Rerank(REQUEST, timeout=PATIENCE_S)).items)
        finally:
            await server.stop(grace_s=0)

    assert asyncio.run(live()) == 2


def test_ipv6_is_served_too() -> None:
    with running(TableServing(), config=ServerConfig(host="::1", port=0)) as server:
        assert server.address == f"[::1]:{server.port}"
        assert len(rerank(server.address).items) == 2


def test_health_says_serving_for_the_whole_server_and_for_the_service() -> None:
    with running(TableServing()) as server, grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=PATIENCE_S).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="sommelier.Cook"), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_a_stopping_server_says_not_serving_and_ends_what_is_under_way() -> None:
    serving = TableServing()
    with ThreadPoolExecutor() as pool, running(serving, grace_s=PATIENCE_S) as server:
        channel = grpc.insecure_channel(server.address)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=PATIENCE_S
        )
        assert next(watch).status == SERVING
        with serving.held():
            call = pool.submit(rerank, server.address)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            stop = pool.submit(asyncio.run_coroutine_threadsafe, *_stopping(server))
            assert next(watch).status == NOT_SERVING
            watch.cancel()
        assert len(call.result().items) == 2
        stop.result().result(timeout=PATIENCE_S)
        channel.close()
        with pytest.raises(grpc.RpcError) as caught:
            rerank(server.address)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def _stopping(server: RankerServer) -> Any:
    return server.stop(PATIENCE_S), server.loop


def test_reflection_lets_a_stranger_find_the_methods() -> None:
    with running(TableServing()) as server, grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        described = DescriptorPool(database).FindServiceByName(SERVICE)
        assert sorted(described.methods_by_name) == [
            "GetInfo",
            "Recommend",
            "Rerank",
            "StreamRerank",
        ]


def test_reflection_can_be_switched_off() -> None:
    config = ServerConfig(port=0, reflection=False)
    with (
        running(TableServing(), config=config) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError) as no,
    ):
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert no.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_a_port_that_another_process_has_is_refused_with_what_to_do(taken_port: int) -> None:
    with (
        pytest.raises(PortInUseError) as refused,
        running(TableServing(), config=ServerConfig(port=taken_port)),
    ):
        pass
    assert str(refused.value) == (
        f"port {taken_port} on 127.0.0.1 is taken: stop the other process or set server.port; "
        "0 picks a free one"
    )


def test_a_second_server_on_the_same_port_is_refused_and_the_first_goes_on() -> None:
    with running(TableServing()) as first:
        with (
            pytest.raises(PortInUseError),
            running(TableServing(), config=ServerConfig(port=first.port)),
        ):
            pass
        assert len(rerank(first.address).items) == 2


def test_a_port_is_free_again_after_its_server_stopped() -> None:
    with running(TableServing()) as first:
        rerank(first.address)
    with running(TableServing(), config=ServerConfig(port=first.port)) as second:
        assert len(rerank(second.address).items) == 2


def test_a_host_of_another_machine_is_refused_with_what_to_do() -> None:
    with (
        pytest.raises(ValueError, match=r"set server\.host to an address of this machine"),
        running(TableServing(), config=ServerConfig(host="192.0.2.1", port=0, insecure=True)),
    ):
        pass


def test_the_metrics_count_requests_by_code_and_time_their_stages() -> None:
    config = ServerConfig(port=0, metrics_port=0)
    with running(TableServing(), config=config) as server:
        assert server.metrics_port
        rerank(server.address)
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
            pb_grpc.RankerServiceStub(channel).Recommend(pb.RecommendRequest(), timeout=PATIENCE_S)
        lines = scrape(server.metrics_port).splitlines()
    assert 'sommelier_requests_total{code="OK",method="Rerank"} 1.0' in lines
    assert 'sommelier_requests_total{code="INVALID_ARGUMENT",method="Recommend"} 1.0' in lines
    assert "sommelier_queue_depth 0.0" in lines
    assert 'sommelier_candidates_sum{method="Rerank"} 2.0' in lines
    for stage in ("queue", "retrieve", "rerank", "total"):
        label = f'{{method="Rerank",stage="{stage}"}}'
        assert f"sommelier_latency_seconds_count{label} 1.0" in lines


def test_no_metrics_are_served_unless_asked_for() -> None:
    with running(TableServing()) as server:
        assert server.metrics_port is None


def test_a_metrics_port_that_is_taken_frees_the_servers_own(taken_port: int) -> None:
    with (
        pytest.raises(PortInUseError, match=r"set server\.metrics_port"),
        running(TableServing(), config=ServerConfig(port=0, metrics_port=taken_port)),
    ):
        pass
    assert [thread.name for thread in threading.enumerate() if "ranker" in thread.name] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_gracefully(number: signal.Signals) -> None:
    answered: list[int] = []

    def on_start(server: RankerServer) -> None:
        def ask_and_kill() -> None:
            answered.append(len(rerank(server.address).items))
            os.kill(os.getpid(), number)

        threading.Thread(target=ask_and_kill).start()

    config, limits = ServerConfig(port=0), ServiceLimits()
    run_until_signal(TableServing(), config=config, limits=limits, on_start=on_start)
    assert answered == [2]


def test_no_thread_outlives_its_server() -> None:
    with running(TableServing(), config=ServerConfig(port=0, metrics_port=0)) as server:
        rerank(server.address)
    assert [thread.name for thread in threading.enumerate() if "ranker" in thread.name] == []
