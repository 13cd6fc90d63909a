"""HTTP requests in, exchanges with the service out: tokens, deadlines, sizes, and who hangs up.

The deadline is the header `x-timeout-ms`, else the setting's, and includes reading the body. What
is refused is refused before the body is read, where headers suffice for it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ranker.limits import ServerConfig, ServiceLimits
from ranker.service import statuses
from ranker.service.authentication import AUTHORIZATION, Gate
from ranker.service.exchange import TRACE_HEADERS, Exchange, Exchanges
from ranker.service.rest import refusals
from ranker.service.statuses import StatusError

TIMEOUT = "x-timeout-ms"
REQUEST_ID = "x-request-id"
HUNG_UP = 499  # nginx's number for it; nobody reads it
TOO_LARGE = 413


class HungUp(asyncio.CancelledError):
    """The client has closed the connection."""


class Call:
    """What the service asks of gRPC's context, for one HTTP request."""

    def __init__(self, exchange: Exchange, *, timeout_s: float) -> None:
        self.exchange = exchange
        self.named: Callable[[str], str] = str
        """What a field of the wire is called in the body that was sent."""
        self._until = time.monotonic() + timeout_s

    def time_remaining(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._until - time.monotonic())


class Door:
    """What all HTTP requests to the service have in common."""

    def __init__(
        self, exchanges: Exchanges, gate: Gate, *, config: ServerConfig, limits: ServiceLimits
    ) -> None:
        self._exchanges = exchanges
        self._gate = gate
        self._timeout_s = config.rest_timeout_s
        self._message_bytes = limits.message_bytes

    async def answer(
        self, method: str, request: Request, handle: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """One request, from its headers to its answer or refusal.

        Args:
            method: As the .proto names it.
            request: As it came; its body is not read yet.
            handle: Parses the body and answers.
        """
        named: Callable[[str], str] = str
        try:
            with self._exchange(method, request) as exchange:
                self._gate.admit(request.headers.getlist(AUTHORIZATION), _certified(request))
                call = Call(exchange, timeout_s=self._timeout(request))
                bounded = Bounded(request, limit_bytes=self._message_bytes)
                bounded.state.call = call
                try:
                    async with asyncio.timeout(call.time_remaining()):
                        return await handle(bounded)
                except (TimeoutError, RequestValidationError, HTTPException) as error:
                    raise self._status_of(error) from None
                finally:
                    named = call.named
        except StatusError as error:
            return _refused(error, named, request_id=request.headers.get(REQUEST_ID, ""))
        except HungUp:
            return Response(status_code=HUNG_UP)

    @contextmanager
    def _exchange(self, method: str, request: Request) -> Iterator[Exchange]:
        headers = {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}
        with self._exchanges.begin(method, None, protocol="http", headers=headers) as exchange:
            exchange.request_id = request.headers.get(REQUEST_ID, "")
            yield exchange

    def _timeout(self, request: Request) -> float:
        sent = request.headers.get(TIMEOUT)
        if sent is None:
            return self._timeout_s
        try:
            timeout_ms = float(sent)
        except ValueError:
            timeout_ms = math.nan
        if not 0 < timeout_ms < math.inf:
            told = f"{statuses.shown(sent)}, a number of milliseconds above 0 is needed"
            raise statuses.invalid([(TIMEOUT, told)])
        return timeout_ms / 1e3

    def _status_of(self, error: Exception) -> BaseException:
        match error:
            case TimeoutError():
                return statuses.deadline_exceeded("the answer was ready")
            case RequestValidationError():
                return _invalid(error)
            case HTTPException(status_code=code) if code == TOO_LARGE:
                return statuses.too_large(limit_bytes=self._message_bytes)
            case _ if isinstance(error.__cause__, ClientDisconnect):
                return HungUp()
            case _:  # nested too deep, or no UTF-8
                return statuses.invalid([("body", "cannot be read as JSON")])


async def asked(
    request: Request, behavior: Callable[[Any, Any], Awaitable[Any]], message: Any
) -> Any:
    """The service's answer; its work is given up where the client hangs up or time is over.

    Args:
        request: Of which the body has been read.
        behavior: A method of the service.
        message: What it is asked, as over the wire.

    Raises:
        HungUp: the client did.
        StatusError: refused.
    """
    call: Call = request.state.call
    work = asyncio.ensure_future(behavior(message, call))
    hung_up = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((work, hung_up), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise HungUp
        response = work.result()
        call.exchange.sent(response)
        return response
    finally:
        work.cancel()
        hung_up.cancel()
        await asyncio.gather(work, hung_up, return_exceptions=True)


class Bounded(Request):
    """A request whose body is read up to a limit."""

    def __init__(self, request: Request, *, limit_bytes: int) -> None:
        super().__init__(request.scope, request.receive)
        self._limit_bytes = limit_bytes

    async def body(self) -> bytes:
        """All of it.

        Raises:
            HTTPException: it is too large; FastAPI hands this one on as it is.
        """
        if not hasattr(self, "_body"):
            self._check(int(self.headers.get("content-length", "0")))
            read = bytearray()
            async for part in self.stream():
                read += part
                self._check(len(read))
            self._body = bytes(read)
        return self._body

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._limit_bytes:
            raise HTTPException(TOO_LARGE)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _certified(request: Request) -> list[str]:
    """What the client's verified certificate calls it, if there is one."""
    names: list[str] = request.scope["state"].get("certified", [])
    return names


def _invalid(error: RequestValidationError) -> StatusError:
    """Every fault with the path of its field in the body, as `documents[3]`."""
    violations = []
    for fault in error.errors():
        if fault["type"] == "json_invalid":
            violations.append(("body", f"no JSON: {fault['ctx']['error']}"))
            continue
        path = ""
        for part in fault["loc"][1:]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        violations.append((path or "body", fault["msg"].removeprefix("Value error, ")))
    return statuses.invalid(violations)


def _refused(error: StatusError, named: Callable[[str], str], *, request_id: str) -> Response:
    refusal = refusals.to_refusal(error, named)
    return JSONResponse(
        refusal.model_dump(exclude_none=True),
        status_code=refusals.http_code(refusal),
        headers={**refusals.headers(refusal), **with_id(request_id)},
    )


def with_id(request_id: str) -> dict[str, str]:
    """The header that echoes a request's id, where it has one that a header may bear."""
    is_fit = request_id.isascii() and request_id.isprintable() and len(request_id) <= 256
    return {REQUEST_ID: request_id} if request_id and is_fit else {}
