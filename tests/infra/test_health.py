"""The health check tells a serving server from one that loads, and from none at all."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ranker.limits import ServerConfig
from ranker.service.server import SERVICE_NAME, running
from tests.ranker.certificates import Authority, write
from tests.ranker.serving_world import TableServing

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


def check(address: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HEALTH), address, *map(str, options)]
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


def test_the_ranker_behind_mutual_tls_is_asked_with_a_certificate(tmp_path: Path) -> None:
    authority = Authority()
    chain, key = write(tmp_path, authority.issue("ranker"))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    own = tmp_path / "own"
    own.mkdir()
    certificate, own_key = write(own, authority.issue("probe"))
    config = ServerConfig(
        port=0, tls_certificate=chain, tls_key=key, tls_client_ca=tmp_path / "ca.pem"
    )
    trusting = ["--ca", tmp_path / "ca.pem", "--service", SERVICE_NAME]
    with running(TableServing(), config=config) as server:
        assert check(server.address).returncode == 1
        assert check(server.address, *trusting).returncode == 1
        known = [*trusting, "--certificate", certificate, "--key", own_key]
        run = check(server.address, *known)
        assert (run.returncode, run.stderr) == (0, "")
        assert check(server.address, *trusting, "--certificate", certificate).returncode == 2
