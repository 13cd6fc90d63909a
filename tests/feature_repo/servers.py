"""A Redis and a PostgreSQL of the tests' own: on free ports, in temporary folders, ended with them.

Nothing is kept on disk beyond the test run, and nothing listens beyond the loopback.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg
import redis
from pyarrow.fs import S3FileSystem
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.ports import free_port

START_WITHIN_S = 120
END_WITHIN_S = 30
USER, PASSWORD, DATABASE = "sommelier", "p:w#d '1\"", "features"


class Server:
    """A process that can be stopped and started again on its port, with the same folder."""

    # Not SIGINT: who is started in the background ignores that one, and so do its children.
    ends_by = signal.SIGTERM

    def __init__(self, command: Sequence[str], *, folder: Path, user: str | None) -> None:
        self.folder = folder
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self.folder, **_as(self._user)
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self._command[0]} did not start:\n{said[-2000:]}")
            time.sleep(0.05)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def signal(self, number: signal.Signals) -> None:
        """Such as SIGSTOP: it holds its port, and answers nobody until SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Told first, then killed: no process is left, whatever it was doing."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGCONT, self.ends_by):
            process.send_signal(number)
        try:
            process.wait(timeout=END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RedisServer(Server):
    """Keeps nothing on disk: stopped, it has forgotten everything."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--appendonly": "no",
            "--requirepass": PASSWORD,
        }
        command = [_binary("redis-server", package="redis-server")]
        command += [word for option in options.items() for word in option]
        super().__init__(command, folder=folder, user=None)

    @property
    def environment(self) -> dict[str, str]:
        """What the production profile asks for."""
        return {"REDIS": f"127.0.0.1:{self.port},password={PASSWORD}"}

    def client(self) -> redis.Redis:
        once = Retry(NoBackoff(), 0)  # by itself it would try for ten seconds
        return redis.Redis(host="127.0.0.1", port=self.port, password=PASSWORD, retry=once)

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class PostgresServer(Server):
    """A cluster of its own, which asks for a password."""

    ends_by = signal.SIGINT  # it waits for nobody's connection; upon SIGTERM it would

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        if user:
            shutil.chown(folder, user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = folder / "data"
        initdb = [_postgres("initdb"), "-D", str(data), "-U", USER, "--pwfile", str(secret)]
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **_as(user))
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "fsync=off"]
        settings += [f"unix_socket_directories={folder}"]
        command = [_postgres("postgres"), "-D", str(data)]
        command += [word for setting in settings for word in ("-c", setting)]
        super().__init__(command, folder=folder, user=user)

    @property
    def environment(self) -> dict[str, str]:
        """What the production profiles ask for."""
        quoted = "".join(f"%{byte:02X}" for byte in PASSWORD.encode())
        return {
            "POSTGRES_URL": f"postgresql+psycopg://{USER}:{quoted}@127.0.0.1:{self.port}/{DATABASE}",
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_DATABASE": DATABASE,
            "POSTGRES_USER": USER,
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_SSLMODE": "disable",
        }

    def recreate(self) -> None:
        """An empty database in the place of the old one."""
        with self._connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def is_ready(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )


class S3Server(Server):
    """Speaks S3; keeps everything in memory."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._num_buckets = 0
        command = [_binary("moto_server", package="moto[server]"), "-H", "127.0.0.1"]
        super().__init__([*command, "-p", str(self.port)], folder=folder, user=None)

    def bucket(self) -> str:
        """The URL of a folder in a new bucket."""
        self._num_buckets += 1
        files = S3FileSystem(
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        name = f"bucket-{self._num_buckets}"
        files.create_dir(name)
        where = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://{name}/shop/store?{where}"

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


S = TypeVar("S", bound=RedisServer | PostgresServer | S3Server)


@contextmanager
def running(kind: type[S]) -> Iterator[S]:
    """A server in a folder of its own, stopped and swept away in the end."""
    # Not pytest's folder: that one is closed to other users, and PostgreSQL runs as another.
    with tempfile.TemporaryDirectory(prefix="sommelier-server-") as name:
        folder = Path(name)
        server = kind(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _as(user: str | None) -> dict[str, object]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _postgres(name: str) -> str:
    """Debian keeps these outside of the path, by version: the newest one."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else _binary(name, package="postgresql")


def _binary(name: str, *, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"{name} is not installed: apt-get install {package}, or leave these tests out with "
            "-m 'not servers'"
        )
    return found
