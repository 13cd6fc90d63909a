"""The containers agree with the code and with each other on ports, files and who may reach them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ranker.limits import DEFAULT_PORT

INFRA = Path(__file__).resolve().parents[2] / "infra"


def has_compose() -> bool:
    """Whether the docker command line is there with its compose plugin; no engine is needed."""
    if shutil.which("docker") is None:
        return False
    version = ["docker", "compose", "version"]
    return subprocess.run(version, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (INFRA / "Dockerfile").read_text()


def test_every_published_port_is_bound_to_the_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_the_ranker_listens_where_compose_publishes_and_the_image_checks_its_health(
    services: dict[str, Any], dockerfile: str
) -> None:
    assert f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}" in services["ranker"]["ports"]
    assert f'"/health.py", "127.0.0.1:{DEFAULT_PORT}"' in dockerfile
    assert re.search(rf"^EXPOSE {DEFAULT_PORT}\b", dockerfile, re.MULTILINE)


def test_prometheus_scrapes_a_port_that_the_ranker_exposes(dockerfile: str) -> None:
    scrapes = yaml.safe_load((INFRA / "prometheus.yml").read_text())["scrape_configs"]
    targets = {scrape["job_name"]: scrape["static_configs"][0]["targets"] for scrape in scrapes}
    host, port = targets["ranker"][0].split(":")
    assert host == "ranker"
    assert re.search(rf"^EXPOSE .*\b{port}\b", dockerfile, re.MULTILINE)


def test_the_stores_are_found_where_the_production_profile_looks(services: dict[str, Any]) -> None:
    profile = (INFRA.parent / "feature_repo" / "production.yaml").read_text()
    environment = services["ranker"]["environment"]
    assert set(re.findall(r"\$\{(\w+)\}", profile)) == set(environment)
    for name, service in (("REDIS", "redis"), ("POSTGRES_URL", "postgres")):
        host, port = environment[name].split("@")[-1].split("/")[0].split(":")
        assert host == service
        assert int(port) == {"redis": 6379, "postgres": 5432}[service]
        assert services[service]["profiles"] == ["production"]


def test_every_service_is_checked_for_its_health_and_writes_only_to_declared_volumes(
    services: dict[str, Any], dockerfile: str
) -> None:
    declared = yaml.safe_load((INFRA / "compose.yaml").read_text())["volumes"]
    for name, service in services.items():
        assert "healthcheck" in service or (name == "ranker" and "HEALTHCHECK" in dockerfile)
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in declared or (INFRA / source).is_file()


def test_the_image_copies_only_files_that_exist_and_are_sent_to_the_builder(
    dockerfile: str,
) -> None:
    sent = (INFRA.parent / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (INFRA.parent / source).exists()
            assert f"!{source}" in sent


def test_the_image_runs_as_a_user_that_is_not_root(dockerfile: str) -> None:
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["sommelier"]


@pytest.mark.skipif(not has_compose(), reason="no `docker compose` on this machine")
def test_docker_compose_accepts_the_file() -> None:
    config = ["docker", "compose", "--file", str(INFRA / "compose.yaml"), "config", "--quiet"]
    run = subprocess.run(config, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
