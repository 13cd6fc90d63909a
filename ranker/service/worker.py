"""A generation loaded and calls answered, one at a time, in a process of its own.

    python -m ranker.service.worker FD

FD is one end of a socket pair; at the other end is `ranker.service.processes`. The first frame says
what to load. The main thread computes; another one listens meanwhile, so that a call that is
dropped stops before its next pass, and so that the process ends with its server, however that died.
A third one answers those who cannot wait for the first, without the LLM.
"""

import importlib
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from feature_repo.base import Unreachable
from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import pipe
from ranker.service.call import read_call
from ranker.service.exchange import Exchanges
from ranker.service.replying import Replier
from ranker.service.statuses import StatusError
from ranker.service.workers import Job
from ranker.serving import Serving

REQUESTS: dict[str, Any] = {
    "Rerank": pb.RerankRequest,
    "Recommend": pb.RecommendRequest,
    "StreamRerank": pb.StreamRerankRequest,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A call as it comes through the pipe."""

    number: int
    method: str
    request_id: str
    request: bytes
    job: Job
    is_hurried: bool
    """Whether it is answered without the LLM, beside what is computed."""


class Worker:
    """Speaks with the server through a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._exchanges = Exchanges(observers=())
        self._works: queue.SimpleQueue[Work | Mapping[str, Any] | None] = queue.SimpleQueue()
        self._hurried: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}
        self._sending = threading.Lock()

    def live(self) -> None:
        """Loads what the server says and answers until it says that no more will come."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        launch = self._works.get()
        assert isinstance(launch, Mapping), "the first frame says what to load"
        limits = ServiceLimits(**launch["limits"])
        try:
            serving = load(launch["loader"], launch["arguments"])
            info = wire.to_info(serving.info, limits).SerializeToString()
        except Exception as error:
            is_unreachable = isinstance(error, Unreachable)
            told = str(error) if isinstance(error, ValueError) else repr(error)
            self._send({"kind": "failed", "told": told, "is_unreachable": is_unreachable})
            raise
        self._send({"kind": "ready"}, info)
        replier = Replier(serving)
        threading.Thread(
            target=self._hurry, args=(serving, replier, limits), name="hurried", daemon=True
        ).start()
        while (work := self._works.get()) is not None:
            assert isinstance(work, Work)
            self._answer(work, serving, replier, limits)

    def _hurry(self, serving: Serving, replier: Replier, limits: ServiceLimits) -> None:
        while True:
            self._answer(self._hurried.get(), serving, replier, limits)

    def _listen(self) -> None:
        with self._connection.makefile("rb") as incoming:
            while (come := pipe.read(incoming)) is not None:
                self._heard(*come)
        # Whoever would read an answer is gone. Only this ends a thread that computes.
        os._exit(1)

    def _heard(self, header: pipe.Header, body: bytes) -> None:
        match header["kind"]:
            case "launch":
                self._works.put(header)
            case "call" | "hurry" as kind:
                job = self._jobs[header["call"]] = Job(header["left_s"])
                works = self._hurried if kind == "hurry" else self._works
                works.put(
                    Work(
                        number=header["call"],
                        method=header["method"],
                        request_id=header["request_id"],
                        request=body,
                        job=job,
                        is_hurried=kind == "hurry",
                    )
                )
            case "drop" if known := self._jobs.get(header["call"]):
                known.drop()
            case "extend" if known := self._jobs.get(header["call"]):
                known.extend_to(header["left_s"])
            case "quit":
                self._works.put(None)

    def _answer(
        self, work: Work, serving: Serving, replier: Replier, limits: ServiceLimits
    ) -> None:
        request: Any = REQUESTS[work.method].FromString(work.request)
        asked = request.rerank if work.method == "StreamRerank" else request
        asked.request_id = work.request_id
        number, refusal = work.number, b""
        try:
            with (
                self._exchanges.begin(work.method, request, protocol="pipe", headers={}),
                suppress(CancelledError),  # nobody waits for the answer any more
            ):
                call = read_call(work.method, request, limits, serving.info)
                answer = replier.hurried if work.is_hurried else replier.replies
                for message in answer(call, work.job):
                    self._send({"kind": "reply", "call": number}, message.SerializeToString())
        except StatusError as error:
            refusal = error.status.SerializeToString()
        del self._jobs[number]
        caches = {name: asdict(counts) for name, counts in serving.caches.items()}
        end = {"kind": "end", "call": number, "is_degraded": serving.is_degraded}
        self._send({**end, "caches": caches}, refusal)

    def _send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        with self._sending:
            self._connection.sendall(pipe.frame(header, body))


def load(loader: str, arguments: Mapping[str, Any]) -> Serving:
    """What the loader, named as `module:function`, gives for these arguments."""
    module, _, function = loader.partition(":")
    serving: Serving = getattr(importlib.import_module(module), function)(**arguments)
    return serving


def main(descriptor: int) -> None:
    """Serve one socket."""
    # The server decides when its workers end. A service manager signals all of a group at once, and
    # a worker that went at once would take along what the server is still answering.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as connection:
        Worker(connection).live()


if __name__ == "__main__":
    main(int(sys.argv[1]))
