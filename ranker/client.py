"""A user and items in, a typed answer out, from a ranker anywhere on the network.

Needs gRPC, protobuf and numpy alone; no model, store or index is loaded. Every call has a deadline.
A server that cannot be reached is tried again within it, nothing else is: an answer that failed
once for a reason would fail again.

What can be asked stands once, in `ranker.calls`; the two clients here only wait in their own ways.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import grpc
from grpc import aio

from ranker import calls, channels
from ranker.answers import Answer, FieldViolation, RankerError, ServerInfo, Timings, TitledItem
from ranker.calls import Call
from ranker.channels import ClientTls
from ranker.pb import ranker_pb2_grpc as pb_grpc

__all__ = [
    "Answer",
    "AsyncRankerClient",
    "ClientTls",
    "FieldViolation",
    "RankerClient",
    "RankerError",
    "ServerInfo",
    "Timings",
    "TitledItem",
]

TIMEOUT_S = 1.0

P = ParamSpec("P")
Noun = TypeVar("Noun")
Method = TypeVar("Method", bound=Callable[..., Any])


def _described(describe: Callable[..., Any]) -> Callable[[Method], Method]:
    """Gives a method the words and the signature of the function that describes its calls."""

    def named(method: Method) -> Method:
        signature = inspect.signature(describe)
        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        wrapped: Any = wraps(describe)(method)
        wrapped.__signature__ = signature.replace(
            parameters=[itself, *signature.parameters.values()],
            return_annotation=inspect.signature(method).return_annotation,
        )
        return method

    return named


def _blocking(
    describe: Callable[P, Call[Noun]],
) -> Callable[Concatenate["RankerClient", P], Noun]:
    @_described(describe)
    def method(self: "RankerClient", /, *args: P.args, **kwargs: P.kwargs) -> Noun:
        call = describe(*args, **kwargs)
        try:
            return call.read(self._begun(call))
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error

    return method


def _awaited(
    describe: Callable[P, Call[Noun]],
) -> Callable[Concatenate["AsyncRankerClient", P], Coroutine[Any, Any, Noun]]:
    @_described(describe)
    async def method(self: "AsyncRankerClient", /, *args: P.args, **kwargs: P.kwargs) -> Noun:
        call = describe(*args, **kwargs)
        try:
            return call.read(await self._begun(call))
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error

    return method


def _streaming(
    describe: Callable[P, Call[Noun]],
) -> Callable[Concatenate["RankerClient", P], Iterator[Noun]]:
    @_described(describe)
    def method(self: "RankerClient", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Noun]:
        return self._steps(describe(*args, **kwargs))

    return method


def _awaited_streaming(
    describe: Callable[P, Call[Noun]],
) -> Callable[Concatenate["AsyncRankerClient", P], AsyncIterator[Noun]]:
    @_described(describe)
    def method(
        self: "AsyncRankerClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Noun]:
        return self._steps(describe(*args, **kwargs))

    return method


class _Client:
    """A connection to one address."""

    _library: ClassVar[Any]

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = TIMEOUT_S,
        tls: ClientTls | None = None,
        token: str | None = None,
        insecure: bool = False,
    ) -> None:
        """Connects at the first call.

        Args:
            address: `host:port`.
            timeout_s: The deadline of every call that names none.
            tls: How to encrypt; None does not.
            token: Who calls, as the server's operators gave it.
            insecure: Whether the token may leave this machine without TLS.

        Raises:
            ValueError: no time, a file that is no certificate, or a token that would travel for
                everybody to read.
        """
        self._address = address
        self._timeout_s = calls.checked_timeout(timeout_s)
        self._metadata = channels.metadata(
            token, address, is_encrypted=tls is not None, insecure=insecure
        )
        self._channel = channels.opened(self._library, address, tls)
        self._stub = pb_grpc.RankerServiceStub(self._channel)  # type: ignore[no-untyped-call, unused-ignore]

    @property
    def address(self) -> str:
        """Where it calls."""
        return self._address

    def _begun(self, call: Call[Any]) -> Any:
        timeout_s = self._timeout_s if call.timeout_s is None else call.timeout_s
        method = getattr(self._stub, call.method)
        return method(call.request, timeout=timeout_s, metadata=self._metadata)


class RankerClient(_Client):
    """Blocking calls; one client serves many threads over one connection.

    Every call raises `RankerError` where the server refuses, fails or is not reached in time, and
    `ValueError` where it makes no sense as it stands.
    """

    _library: ClassVar[Any] = grpc

    rerank = _blocking(calls.rerank)
    recommend = _blocking(calls.recommend)
    stream_rerank = _streaming(calls.stream_rerank)
    info = _blocking(calls.info)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _steps(self, call: Call[Noun]) -> Iterator[Noun]:
        begun = self._begun(call)
        try:
            for message in begun:
                yield call.read(message)
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error
        finally:
            begun.cancel()  # of no effect at the end, and an order to stop where the loop was left


class AsyncRankerClient(_Client):
    """`RankerClient` for an event loop: the same calls and answers, each awaited."""

    _library: ClassVar[Any] = aio

    rerank = _awaited(calls.rerank)
    recommend = _awaited(calls.recommend)
    stream_rerank = _awaited_streaming(calls.stream_rerank)
    info = _awaited(calls.info)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close(grace=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _steps(self, call: Call[Noun]) -> AsyncIterator[Noun]:
        begun = self._begun(call)
        try:
            async for message in begun:
                yield call.read(message)
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error
        finally:
            begun.cancel()
