"""A world in, a server of it in a process of its own out, whose CPU time and memory are read.

As a script it serves until its standard input ends, so that no server outlives its benchmark.
Times and sizes are those of the process and all its children, from Linux's /proc.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROC = Path("/proc")
ECHO = Path(__file__).with_name("_service_echo.py")


class Served:
    """A running server."""

    def __init__(
        self,
        world: str,
        *,
        processes: int = 0,
        limits: Mapping[str, int] | None = None,
        **asked: Any,
    ) -> None:
        """Start it, and wait until it listens.

        Args:
            world: As `_service_world.load` names it, or `echo`: no service, gRPC alone.
            processes: Worker processes; 0 answers within the server's own.
            limits: Of `ServiceLimits`; the others are as they always are.
            asked: Further arguments of the world.
        """
        spec = {
            "world": {"world": world, **asked},
            "limits": dict(limits or {}),
            "processes": processes,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(ECHO if world == "echo" else __file__), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: exit code {self._process.wait()}")
        self.address: str = json.loads(line)["address"]

    def cpu_seconds(self) -> float:
        """Of all threads of all its processes, so far."""
        return cpu_seconds(self._process.pid)

    def resident_bytes(self) -> int:
        """Of all its processes together; what they share is counted for each."""
        return resident_bytes(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()  # ends its standard input
        if error is None and self._process.returncode:
            raise RuntimeError(f"the server ended with exit code {self._process.returncode}")


def cpu_seconds(pid: int) -> float:
    """Of a process and its children, by nanoseconds that its threads were on a processor."""
    files = (file for one in _tree(pid) for file in (PROC / str(one)).glob("task/*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def resident_bytes(pid: int) -> int:
    """Of a process and its children."""
    total = 0
    for one in _tree(pid):
        lines = (PROC / str(one) / "status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return total * 1024


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for file in (PROC / str(pid)).glob("task/*/children"):
        for child in file.read_text().split():
            yield from _tree(int(child))


def main() -> None:
    """Serve, say where, and stop with the standard input."""
    from ranker.limits import ServiceLimits
    from ranker.service.processes import Launch, processes
    from ranker.service.server import running

    spec = json.loads(sys.argv[1])
    limits = ServiceLimits(**spec["limits"])
    if spec["processes"]:
        launch = Launch(loader="_service_world:load", arguments=spec["world"])
        served: Any = processes(launch, num=spec["processes"], limits=limits)
    else:
        from _service_world import load

        served = load(**spec["world"])
    with running(served, limits=limits) as server:
        print(json.dumps({"address": server.address}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
