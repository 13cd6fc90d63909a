"""Calls in, what a worker process tells of them out: one child, seen from the event loop."""

import asyncio
import math
import os
import socket
import subprocess  # nosec B404
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from google.rpc import status_pb2

from feature_repo.base import CacheCounts, Unreachable
from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import pipe, statuses
from ranker.service.call import Call, Response
from ranker.service.workers import Job
from ranker.serving import ServingInfo

RESPONSES: dict[str, Any] = {
    "Rerank": pb.RerankResponse,
    "Recommend": pb.RecommendResponse,
    "StreamRerank": pb.StreamRerankResponse,
}


class WorkerFailed(ValueError):
    """A worker process did not load what it should; the message says why."""


@dataclass(slots=True, kw_only=True)
class _Held:
    """The call that the child computes."""

    number: int
    method: str
    job: Job
    tell: Callable[[Response], None]
    end: Callable[[BaseException | None], None]


class Process:
    """A child that has loaded; it computes one call at a time."""

    def __init__(
        self, child: subprocess.Popen[bytes], streams: tuple[asyncio.StreamReader, Any]
    ) -> None:
        """Used by `start`."""
        self._child = child
        self._reader, self._writer = streams
        self._held: _Held | None = None
        self._hurrying: dict[int, tuple[str, asyncio.Future[Response]]] = {}
        self._num_calls = 0
        self._began = time.monotonic()
        self._info: ServingInfo | None = None
        self._reading: asyncio.Task[None] | None = None
        self.is_alive = True
        self.is_degraded = False
        self.caches: Mapping[str, CacheCounts] = {}
        """As told with its last answer."""

    @classmethod
    async def start(
        cls,
        *,
        loader: str,
        arguments: Mapping[str, Any],
        limits: ServiceLimits,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """A child that is ready.

        Args:
            loader: As in `Launch`.
            arguments: Of the loader.
            limits: Of requests.
            environment: Beside this process's own.

        Raises:
            WorkerFailed: it could not load.
            Unreachable: it could not, for the store does not answer.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C at a terminal is the server's to answer.
            child = subprocess.Popen(  # nosec B603
                [sys.executable, "-m", "ranker.service.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        try:
            process = cls(child, await asyncio.open_connection(sock=ours))
        except BaseException:  # given up before the connection stood
            ours.close()
            child.kill()
            child.wait()
            raise
        try:
            launch = {"loader": loader, "arguments": arguments, "limits": asdict(limits)}
            process._send({"kind": "launch", **launch})
            process._info = process._loaded(await pipe.next_frame(process._reader))
        except BaseException:
            await process.end(patience_s=0)
            raise
        process._reading = asyncio.create_task(process._read())
        return process

    @property
    def pid(self) -> int:
        """The operating system's number of it."""
        return self._child.pid

    @property
    def info(self) -> ServingInfo:
        """The facts of the generation that it loaded."""
        assert self._info is not None, "it has not loaded yet"
        return self._info

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def begin(
        self,
        call: Call,
        job: Job,
        *,
        tell: Callable[[Response], None],
        end: Callable[[BaseException | None], None],
    ) -> None:
        """Has the child compute a call; it holds no other.

        Args:
            call: What it computes.
            job: Until when; of a job that is extended, the child is told.
            tell: Called with each response.
            end: Called once with None or what went wrong; the child is free then, or dead.
        """
        assert self._held is None, "the worker holds a call"
        if not self.is_alive:  # it was free when it died, and nobody knew yet
            end(statuses.worker_died())
            return
        self._num_calls += 1
        held = self._held = _Held(
            number=self._num_calls, method=call.method, job=job, tell=tell, end=end
        )
        header = {"kind": "call", "call": held.number, "method": call.method}
        header |= {"request_id": call.request.request_id, "left_s": _left_s(job)}
        self._send(header, call.message.SerializeToString())
        job.when_extended(
            lambda: self._send({"kind": "extend", "call": held.number, "left_s": _left_s(job)})
        )

    @property
    def num_hurrying(self) -> int:
        """Calls that it answers without the LLM, beside the one that it computes."""
        return len(self._hurrying)

    async def hurried(self, call: Call, job: Job) -> Response:
        """The answer to an `anytime` call as far as it goes without the LLM.

        Raises:
            StatusError: an unknown user, nobody waits any more, or the child died.
        """
        if not self.is_alive:
            raise statuses.worker_died()
        self._num_calls += 1
        number = self._num_calls
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._hurrying[number] = call.method, answer
        self._send(
            {
                "kind": "hurry",
                "call": number,
                "method": call.method,
                "request_id": call.request.request_id,
                "left_s": _left_s(job),
            },
            call.message.SerializeToString(),
        )
        try:
            return await answer
        finally:
            job.drop()

    def drop(self) -> None:
        """Nobody waits for what it computes."""
        if self._held is not None and self._held.job.is_dropped:
            self._send({"kind": "drop", "call": self._held.number})

    async def died(self) -> int:
        """Its exit code, once it has ended, whyever that was."""
        assert self._reading is not None
        await asyncio.shield(self._reading)
        self._child.kill()  # it may have closed its end and live on
        code = await asyncio.to_thread(self._child.wait)
        await self._close()
        return code

    async def end(self, *, patience_s: float) -> None:
        """Lets it end what it computes, or kills it after so many seconds.

        A caller that is cancelled meanwhile waits all the same: no child outlives this.
        """
        ending = asyncio.create_task(self._end(patience_s))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    async def _end(self, patience_s: float) -> None:
        self._send({"kind": "quit"})
        try:
            await asyncio.to_thread(self._child.wait, patience_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            await asyncio.to_thread(self._child.wait)
        if self._reading is not None:
            await self._reading
        await self._close()

    async def _close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # it died with something of ours unread
            await self._writer.wait_closed()

    def _loaded(self, come: tuple[pipe.Header, bytes] | None) -> ServingInfo:
        if come is None:
            raise WorkerFailed(
                "a worker process died while it loaded; its error output, and the kernel's log "
                "where memory ran out, say why"
            )
        header, body = come
        if header["kind"] == "failed":
            told = header["told"]
            raise Unreachable(told) if header["is_unreachable"] else WorkerFailed(told)
        return wire.from_info(pb.GetInfoResponse.FromString(body))

    async def _read(self) -> None:
        """Hands on what the child tells, until it has ended."""
        while (come := await pipe.next_frame(self._reader)) is not None:
            header, body = come
            if header["call"] in self._hurrying:
                self._hurry_told(header, body)
                continue
            held = self._held
            assert held is not None, "a worker spoke of no call"
            assert held.number == header["call"], "a worker spoke of another call"
            if header["kind"] == "reply":
                held.tell(RESPONSES[held.method].FromString(body))
                continue
            self.is_degraded = header["is_degraded"]
            self.caches = {name: CacheCounts(**one) for name, one in header["caches"].items()}
            self._ended(statuses.read(status_pb2.Status.FromString(body)) if body else None)
        self.is_alive = False
        self._ended(statuses.worker_died())
        for _, answer in self._hurrying.values():
            if not answer.done():
                answer.set_exception(statuses.worker_died())
        self._hurrying.clear()

    def _hurry_told(self, header: pipe.Header, body: bytes) -> None:
        method, answer = self._hurrying[header["call"]]
        if header["kind"] == "end":
            del self._hurrying[header["call"]]
            if not answer.done():
                status = status_pb2.Status.FromString(body)
                answer.set_exception(statuses.read(status) if body else asyncio.CancelledError())
        elif not answer.done():  # else nobody waits any more
            answer.set_result(RESPONSES[method].FromString(body))

    def _ended(self, error: BaseException | None) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            held.job.when_extended(None)
            held.end(error)

    def _send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        if self.is_alive:
            self._writer.write(pipe.frame(header, body))


def _left_s(job: Job) -> float | None:
    return None if math.isinf(job.time_left_s) else job.time_left_s
