"""A call's token or certificate in, its caller's name or a refusal out.

Health and reflection pass by: they tell nothing that a caller brought or asked. Who sends no right
token is refused from the metadata alone, before their message is parsed. What a token was is told
to nobody: not to the log, not in the refusal.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from ranker.limits import ServerConfig
from ranker.service import callers, statuses
from ranker.service.callers import NAME, Caller, Callers, Rate
from ranker.service.exchange import CALLER
from ranker.service.interceptor import SERVICE_NAME
from ranker.service.rates import Rates
from ranker.service.reloading import Reloading

AUTHORIZATION = "authorization"
SCHEME = "bearer"  # in any case of letters (RFC 9110, section 11.1)
ANYBODY = Caller(name="anybody")  # shares one rate, where nothing says who is who
COMMON_NAME = "x509_common_name"
ALTERNATIVE_NAME = "x509_subject_alternative_name"


class Gate:
    """Decides who may call; one for all of a server's ports."""

    def __init__(
        self,
        *,
        callers: Reloading[Callers] | None = None,
        has_certificates: bool = False,
        rate: Rate | None = None,
    ) -> None:
        """A gate that everybody passes, unless told otherwise.

        Args:
            callers: Who may call; without it, whoever has got a connection.
            has_certificates: Whether connections come with certificates that were verified.
            rate: Of each caller who has none of their own; None leaves them unlimited.
        """
        self._callers = callers
        self._rate = rate
        self._rates = Rates()
        self.has_certificates = has_certificates

    @classmethod
    def of(cls, config: ServerConfig) -> "Gate":
        """The gate of these settings.

        Raises:
            ValueError: the file of callers is missing or broken.
        """
        return cls(
            callers=_followed(config.callers) if config.callers else None,
            has_certificates=config.tls_client_ca is not None,
            rate=Rate.of(config.requests_per_s, config.burst) if config.requests_per_s else None,
        )

    def admit(self, authorization: Sequence[str], names: Sequence[str] = ()) -> str:
        """The caller's name, which the exchange is told, too; the call counts towards their rate.

        Where nothing says who is who, it is `anybody`, and the exchange is told nothing.

        Args:
            authorization: All values of the header of this name; one is as many as may be.
            names: What the caller's verified certificate calls them, the common name first.

        Raises:
            StatusError: UNAUTHENTICATED, PERMISSION_DENIED, or RESOURCE_EXHAUSTED beyond the rate.
        """
        caller = self._identified(authorization, [name for name in names if NAME.fullmatch(name)])
        if caller is not ANYBODY:
            CALLER.set(caller.name)
        rate = caller.rate or self._rate
        if rate is not None:
            self._rates.take(caller.name, rate)
        return caller.name

    def _identified(self, authorization: Sequence[str], names: Sequence[str]) -> Caller:
        if self._callers is None:
            if not self.has_certificates:
                return ANYBODY
            if not names:
                raise statuses.permission_denied(names)
            return Caller(name=names[0])
        known = self._callers.current()
        if authorization or not self.has_certificates:
            caller = known.by_token(_token(authorization))
            if caller is None:
                raise statuses.unauthenticated("the token is not known here")
            return caller
        caller = known.by_certificate(names)
        if caller is None:
            raise statuses.permission_denied(names)
        return caller


class AdmissionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg, unused-ignore]
    """Stands behind `StatusInterceptor`, which answers and counts what is refused here."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler, or one that refuses; gRPC calls this once for each request."""
        handler = await continuation(handler_call_details)
        service, _, _ = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service != SERVICE_NAME:
            return handler
        if self._gate.has_certificates:
            return self._looking_at_certificates(handler)
        try:
            self._gate.admit(_authorization(handler_call_details.invocation_metadata))
        except statuses.StatusError as error:
            return _refusing(handler, error)
        return handler

    def _looking_at_certificates(self, handler: Any) -> Any:
        """Only the call itself knows the certificate, and so its message is read first."""

        async def answer(request: Any, context: Any) -> Any:
            self._admit(context)
            return await handler.unary_unary(request, context)

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            self._admit(context)
            async for response in handler.unary_stream(request, context):
                yield response

        return _like(handler, answer, answers, parse=handler.request_deserializer)

    def _admit(self, context: Any) -> None:
        self._gate.admit(
            _authorization(context.invocation_metadata()), _names(context.auth_context())
        )


def _refusing(handler: Any, error: statuses.StatusError) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        raise error

    async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
        raise error
        yield  # which makes a generator of it

    return _like(handler, answer, answers, parse=lambda data: None)


def _like(handler: Any, answer: Any, answers: Any, *, parse: Callable[[bytes], Any]) -> Any:
    """A handler of the same shape: one answer, or several."""
    codec = {
        "request_deserializer": parse,
        "response_serializer": handler.response_serializer,
    }
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(answers, **codec)
    return grpc.unary_unary_rpc_method_handler(answer, **codec)


def _followed(path: Path) -> Reloading[Callers]:
    return Reloading([path], lambda: callers.read(path), what="server.callers")


def _authorization(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[str]:
    return [str(value) for key, value in metadata or () if key == AUTHORIZATION]


def _token(authorization: Sequence[str]) -> str:
    if not authorization:
        raise statuses.unauthenticated("no token was sent")
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != SCHEME or not token:
        raise statuses.unauthenticated("what was sent is no single bearer token")
    return token.strip()


def _names(certified: Mapping[str, Iterable[bytes]]) -> list[str]:
    return [
        name.decode("utf-8", "replace")
        for kind in (COMMON_NAME, ALTERNATIVE_NAME)
        for name in certified.get(kind, ())
    ]
