"""The health check tells a serving server from one that loads, and from none at all."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

HEALTH = Path(__file__).resolve().parents[2] / "infra" / "health.py"
Status = health_pb2.HealthCheckResponse


@pytest.fixture
def server() -> Iterator[tuple[str, health.HealthServicer]]:
    """A real server on a free port that offers the health protocol alone."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(grace=None).wait()


def check(address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HEALTH), address]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_serving_server_is_healthy_until_it_says_otherwise(
    server: tuple[str, health.HealthServicer],
) -> None:
    address, servicer = server
    servicer.set("", Status.SERVING)
    assert check(address).returncode == 0
    servicer.set("", Status.NOT_SERVING)
    assert check(address).returncode == 1


def test_an_unreachable_server_is_unhealthy_and_the_reason_is_named() -> None:
    run = check("127.0.0.1:1")
    assert run.returncode == 1
    assert "UNAVAILABLE" in run.stderr
