"""What breaks a service, for tests: a server to be watched from outside, a wire that can fail."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


class ServerProcess:
    """A server of `fault_server`, seen from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        facts = self._heard()
        self.address: str = facts["address"]
        self._metrics_port: int = facts["metrics_port"]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def held(self) -> tuple[int, int]:
        """The memory that it cannot do without: blocks of Python's objects, and bytes in all."""
        self.process.send_signal(signal.SIGUSR1)
        num_blocks = self._heard()["num_blocks"]
        facts = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Rss: +(\d+) kB", facts, re.MULTILINE)
        assert found
        return num_blocks, 1024 * int(found[1])

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        heard: dict[str, Any] = json.loads(line)
        return heard

    @property
    def num_files(self) -> int:
        """Files and sockets that it holds open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def num_threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def metric(self, name: str) -> float:
        """The sum over all labels of what begins with this name."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def serving_apart(**facts: Any) -> Iterator[ServerProcess]:
    """A server process; stopped in the end, and how it ended is looked at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ranker.fault_server", json.dumps(facts)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield ServerProcess(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(slots=True, eq=False)
class Pair:
    """One connection: the client's end and the server's, and from which of them bytes go on."""

    ends: tuple[socket.socket, socket.socket]
    flows: list[bool]


class Wire:
    """Stands between clients and a server; what is cut stays open and silent.

    That is what a peer sees when a cable is pulled or a machine loses its power: no FIN, no RST.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[Pair] = []
        self._is_open = True
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Nothing passes any more in these directions on the connections that there are."""
        for pair in self._pairs:
            pair.flows[0] &= not to_server
            pair.flows[1] &= not to_client

    def restore(self) -> None:
        """All passes again, and what was held back comes."""
        for pair in self._pairs:
            pair.flows[:] = True, True

    def close(self) -> None:
        self._is_open = False
        self._thread.join()
        self._listener.close()
        for pair in self._pairs:
            self._end(pair)

    def _carry(self) -> None:
        while self._is_open:
            sources = {
                pair.ends[n]: (pair, n) for pair in self._pairs for n in (0, 1) if pair.flows[n]
            }
            ready, _, _ = select.select([self._listener, *sources], [], [], 0.02)
            for one in ready:
                if one is self._listener:
                    client = one.accept()[0]
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._pairs.append(Pair(ends=(client, server), flows=[True, True]))
                elif sources[one][0] in self._pairs:
                    self._pass_on(*sources[one])

    def _pass_on(self, pair: Pair, n: int) -> None:
        try:
            data = pair.ends[n].recv(65536)
            if data:
                pair.ends[1 - n].sendall(data)
                return
        except OSError:
            data = b""  # reset: as good as closed
        self._end(pair)
        self._pairs.remove(pair)

    def _end(self, pair: Pair) -> None:
        for end in pair.ends:
            end.close()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """A wire to a server of this machine."""
    between = Wire(port)
    try:
        yield between
    finally:
        between.close()


def until(condition: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Returns once it is so."""
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.01)
