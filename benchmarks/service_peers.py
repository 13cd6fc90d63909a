"""One backbone behind several servers in, requests a second of each beside ours out.

The nearest that one can have without this project, on the very prompts of the service (a history of
some 550 tokens, 100 candidates of 16 to 32): sentence-transformers' CrossEncoder behind FastAPI,
and infinity-emb where `--infinity` names the Python that has it (it wants older libraries than
ours, so an environment of its own). Weights are random, of one shape, in float32; every server has
one thread and answers one request at a time over the loopback, in turns, each server a process of
its own. The peers read one token less for each candidate: the one in which retrieval's findings
stand.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from _figures import figure, parser, publish
from _packed_sides import BATCH, SHAPES, save_cross_encoder
from _service_bare import Bare
from _service_calls import METHOD, Load, messages
from _service_server import Served, cpu_seconds
from _service_world import LlmServing, load

from ranker.pb import ranker_pb2 as pb
from ranker.prompts import EVIDENCE, STRIDE, Codes

EVENTS = 20  # titles of 24 words on average: some 550 tokens
READY_S = 600.0
ALONE = {
    **{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    **{"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"},  # nobody is told of it
}
APP = Path(__file__).with_name("_service_cross_encoder.py")

Prompt = tuple[bytes, dict[str, Any]]


class Peer:
    """Another server of the same backbone, over HTTP."""

    def __init__(self, command: Sequence[str], *, port: int, path: str) -> None:
        """Start it, and wait until it answers."""
        self._port, self._path = port, path
        self._process = subprocess.Popen(
            command, env={**os.environ, **ALONE}, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        self._process.kill()
        raise RuntimeError(f"no server after {READY_S:.0f} s: {' '.join(command)}")

    def rerank(self, asked: dict[str, Any]) -> list[float]:
        """A score for each document, as they were given."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        connection.request(
            "POST", self._path, json.dumps(asked), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{self._path}: {answer.status} {told[:300]!r}")
        scores = {one["index"]: one["relevance_score"] for one in json.loads(told)["results"]}
        return [scores[n] for n in range(len(scores))]

    def cpu_seconds(self) -> float:
        """So far."""
        return cpu_seconds(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()


def free_port() -> int:
    """Of this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def words(codes: Codes) -> str:
    """A prompt's tokens as the cross-encoder's words; behaviors are words of their own there."""
    kept = [code for code in codes.tolist() if code // STRIDE != EVIDENCE]
    return " ".join(str(code % STRIDE) for code in kept)


def prompts(serving: LlmServing, asked: Namespace) -> list[Prompt]:
    """What every server is asked: our message, and the same tokens as texts."""
    bare = Bare(serving)
    calls = Load(
        address="",
        num_candidates=asked.candidates,
        num_events=EVENTS,
        duration_s=0,
        num_users=1 + asked.rounds * asked.calls,
    )
    made = []
    for message in messages(calls):
        request = pb.RerankRequest.FromString(message)
        prefix, *branches = bare.prompt(request.user.user_id, list(request.item_ids))
        texts = [words(branch) for branch in branches]
        made.append((message, {"query": words(prefix), "documents": texts}))
    return made


class Sides:
    """Every server that was started, and how it is asked."""

    def __init__(self, stack: ExitStack, asked: Namespace) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        save_cross_encoder(asked.shape, Path(folder))
        port = free_port()
        command = [sys.executable, str(APP), folder, str(port)]
        self.encoder = stack.enter_context(Peer(command, port=port, path="/rerank"))
        self.infinity = None
        if asked.infinity:
            port = free_port()
            command = [*infinity(asked.infinity, folder), "--port", str(port)]
            self.infinity = stack.enter_context(Peer(command, port=port, path="/rerank"))
        self.ours = stack.enter_context(
            Served(asked.shape, processes=asked.processes, written="titles", prefix_cache_mib=0)
        )
        channel = stack.enter_context(grpc.insecure_channel(self.ours.address))
        self._rerank = channel.unary_unary(METHOD)

    def round(self, given: Sequence[Prompt]) -> dict[str, list[float]]:
        """Seconds, then CPU seconds, of ours for each prompt and of the others for the first."""
        message, texts = given[0]
        times = {
            "encoder": taken(lambda: self.encoder.rerank(texts), self.encoder.cpu_seconds),
        }
        if self.infinity is not None:
            raw = {**texts, "model": "model", "raw_scores": True}
            peer = self.infinity
            times["infinity"] = taken(lambda: peer.rerank(raw), peer.cpu_seconds)
        for n, (message, _) in enumerate(given):
            own = taken(lambda message=message: self._rerank(message), self.ours.cpu_seconds)
            times[f"ours_{n}"] = own
        return {name: list(pair) for name, pair in times.items()}


def infinity(python: Path, folder: str) -> list[str]:
    """Its command line, with what is fastest here."""
    return [
        str(python.with_name("infinity_emb")),
        *("v2", "--model-id", folder, "--served-model-name", "model"),
        *("--device", "cpu", "--engine", "torch", "--dtype", "float32"),
        *("--batch-size", str(BATCH), "--no-bettertransformer", "--no-model-warmup"),
    ]


def taken(work: Callable[[], Any], cpu: Callable[[], float]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    cpu_began, began = cpu(), time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return seconds, cpu() - cpu_began


def measure(asked: Namespace) -> dict[str, list[float]]:
    """Each figure's values, one a round."""
    serving = load(asked.shape, written="titles", prefix_cache_mib=0)
    assert isinstance(serving, LlmServing)
    first, *given = prompts(serving, asked)
    values: dict[str, list[float]] = {"prefix_tokens": [len(first[1]["query"].split())]}
    with ExitStack() as stack:
        sides = Sides(stack, asked)
        sides.round([short(first)])
        for n in range(asked.rounds):
            times = sides.round(given[n * asked.calls : (n + 1) * asked.calls])
            found = figures(times)
            for name, value in found.items():
                values.setdefault(name, []).append(value)
    return values


def short(prompt: Prompt) -> Prompt:
    """For a first call, which pages in code and weights."""
    message, texts = prompt
    return message, {**texts, "documents": texts["documents"][:BATCH]}


def figures(times: dict[str, list[float]]) -> dict[str, float]:
    """Of one round."""
    ours_s, ours_cpu_s = np.array([pair for name, pair in times.items() if "ours" in name]).T
    found = {"p50_ms": 1e3 * np.percentile(ours_s, 50), "p99_ms": 1e3 * np.percentile(ours_s, 99)}
    for side, name in (("encoder", "cross_encoder_fastapi"), ("infinity", "infinity")):
        if side in times:
            seconds, cpu_s = times[side]
            found[f"rps_vs_{name}"] = seconds / ours_s.mean()
            found[f"cpu_vs_{name}"] = cpu_s / ours_cpu_s.mean()
            found[f"{name}_ms"] = 1e3 * seconds
    return {name: float(value) for name, value in found.items()}


MEANINGS = {
    "prefix_tokens": "of the history, for every server",
    "p50_ms": "median milliseconds of a call to ours",
    "p99_ms": "99th percentile; of few calls the slowest",
    "rps_vs_cross_encoder_fastapi": "requests a second, ours / CrossEncoder behind FastAPI",
    "cpu_vs_cross_encoder_fastapi": "CPU time of a request, that server / ours",
    "cross_encoder_fastapi_ms": "milliseconds of a call to that server",
    "rps_vs_infinity": "requests a second, ours / infinity-emb",
    "cpu_vs_infinity": "CPU time of a request, infinity-emb / ours",
    "infinity_ms": "milliseconds of a call to infinity-emb",
}


def main() -> None:
    """Measure, print, write."""
    options: ArgumentParser = parser("Requests a second beside other servers of one backbone.")
    options.add_argument("--shape", choices=SHAPES, default="15m")
    options.add_argument("--candidates", type=int, default=100)
    options.add_argument("--calls", type=int, default=10, help="of ours in a round; one of theirs")
    options.add_argument("--infinity", type=Path, metavar="PYTHON", help="that has infinity-emb")
    options.add_argument("--processes", type=int, default=0, help="worker processes of ours")
    options.set_defaults(rounds=3)
    asked = options.parse_args()
    values = measure(asked)
    publish(
        f"{asked.candidates} candidates behind one history, {asked.shape}",
        {name: figure(found) for name, found in values.items()},
        {name: MEANINGS[name] for name in values},
        file=asked.json,
        packages=("fastapi", "grpcio", "sentence-transformers", "torch", "transformers", "uvicorn"),
    )


if __name__ == "__main__":
    main()
