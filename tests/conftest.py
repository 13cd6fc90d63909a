"""What every test stands on: quiet threads, fixed seeds, and the shared data sets' folder."""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.feature_repo.servers import PostgresServer, RedisServer, S3Server

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(
    os.environ.get("SOMMELIER_SHARED_DATA") or REPOSITORY.parent / "shared" / "data"
).resolve()
SEED = 20

# Read by libraries while they are imported, so set before any test module is. One thread each:
# on a small machine spinning OpenMP threads slow a suite down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ.setdefault("MPLBACKEND", "Agg")

# On a busy machine an example takes as long as it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, saying why; asking for `shared_data` marks a test so.

    Asking for `redis` or `postgres` marks it `servers`. CI has all servers: there nothing that
    needs one is skipped, and a missing one fails.
    """
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_data)
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            reason = f"no folder {SHARED_DATA}: set SOMMELIER_SHARED_DATA"
            item.add_marker(pytest.mark.skip(reason=reason))
        wanted = set(SERVERS) & set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("s3"):
            wanted.add("s3")
        if wanted:
            item.add_marker(pytest.mark.servers)
        if absent := sorted(SERVERS[one] for one in wanted if not _is_installed(one)):
            item.add_marker(pytest.mark.skip(reason=f"no server here: {'; '.join(absent)}"))
        if item.get_closest_marker("weights") and "SOMMELIER_WEIGHTS" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="no weights: set SOMMELIER_WEIGHTS"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


SERVERS = {  # the fixture, and how its server is installed
    "redis": "apt-get install redis-server",
    "postgres": "apt-get install postgresql",
    "s3": "moto[server] in an environment of its own, its moto_server on the path",
}
COMMANDS = {"redis": "redis-server", "postgres": "pg_ctl", "s3": "moto_server"}


def _is_installed(server: str) -> bool:
    if os.environ.get("CI"):
        return True
    has_debians = server == "postgres" and any(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return has_debians or shutil.which(COMMANDS[server]) is not None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def imported_feast() -> None:
    """Feast, imported now.

    The import takes seconds and resets the warning filters of whichever test it happens in, so
    tests that reach Feast through a lazy import ask for it beforehand.
    """
    import feast  # noqa: F401


@pytest.fixture(scope="session")
def redis() -> "Iterator[RedisServer]":
    """A Redis that keeps nothing on disk; tests empty it before they begin."""
    from tests.feature_repo import servers

    with servers.running(servers.RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A PostgreSQL; tests make its database anew before they begin."""
    from tests.feature_repo import servers

    with servers.running(servers.PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> "Iterator[S3Server]":
    """A server that speaks S3, with credentials for it in the environment."""
    from tests.feature_repo import servers

    with pytest.MonkeyPatch.context() as patch, servers.running(servers.S3Server) as server:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        yield server


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every test, whichever tests ran before."""
    random.seed(SEED)
    np.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
