"""An ASGI application in, HTTP on a port out, in the running event loop and with the server's TLS.

Certificates are exchanged as for gRPC: a new connection gets what the files hold by then.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ranker.limits import ServerConfig
from ranker.service.credentials import read
from ranker.service.reloading import Reloading

# Who says nothing, or a byte now and then, keeps no place: so long may a request's headers take,
# whatever its deadline its body, and the client to have read what was sent.
HEADERS_S = 10.0
BODY_S = 30.0
READ_S = 30.0
IDLE_S = 5  # between two requests of one connection


class RestServer:
    """HTTP beside gRPC; made with an application, started once."""

    def __init__(self, app: Any, config: ServerConfig) -> None:
        self._config = config
        self._app = app
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listens; returns the port.

        Raises:
            OSError: the port cannot be had, `errno.EADDRINUSE` where it is taken.
            ValueError: the certificates are no good.
        """
        config = self._config
        assert config.rest_port is not None
        context = _tls(config)
        family = socket.AF_INET6 if ":" in config.rest_host else socket.AF_INET
        listener = socket.create_server((config.rest_host, config.rest_port), family=family)
        settings = uvicorn.Config(
            self._app,
            http=_Http,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=config.connections,
            timeout_keep_alive=IDLE_S,
        )
        settings.load()
        settings.ssl = context
        self._server = _Server(settings)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        await self._server.is_listening.wait()
        return int(listener.getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Turns new connections away, ends requests under way or cancels them after the grace."""
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """Leaves the process's signals alone, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()


class _Http(H11Protocol):
    """Tells the application what a client's certificate calls it; waits for requests to come, and
    for answers to be read, no longer than due."""

    _awaited_s: float | None = None
    _impatience: asyncio.TimerHandle | None = None  # with whoever sends
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing pauses while anything is left in the buffer, so that it is known how long.
        transport.set_write_buffer_limits(high=1, low=0)
        self.app_state = {**self.app_state, "certified": _names(transport)}
        self._await()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # and begins with the next request, if that is there
        self._await()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._impatience, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _await(self) -> None:
        """From now on the next thing, unless that was waited for already."""
        awaited_s: float | None = None
        if self.cycle is None or self.cycle.response_complete:
            awaited_s = HEADERS_S
        elif self.cycle.more_body:
            awaited_s = BODY_S
        if awaited_s == self._awaited_s:
            return
        self._awaited_s = awaited_s
        if self._impatience is not None:
            self._impatience.cancel()
        if awaited_s is not None:
            loop = asyncio.get_running_loop()
            self._impatience = loop.call_later(awaited_s, self.transport.close)


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    chain, key, client_ca = config.tls_certificate, config.tls_key, config.tls_client_ca
    if chain is None or key is None:
        return None

    def load() -> ssl.SSLContext:
        read(chain, key, client_ca=client_ca)  # which says what is wrong with them
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(chain, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    context = load()
    paths = [path for path in (chain, key, client_ca) if path is not None]
    followed = Reloading(paths, load, what="the TLS certificates of HTTP")

    def choose(connection: Any, name: str | None, first: ssl.SSLContext) -> None:
        """Called within each handshake, whether a name was asked for or not."""
        connection.context = followed.current()

    context.sni_callback = choose
    return context


def _names(transport: asyncio.Transport) -> list[str]:
    """What the client's verified certificate calls it, the common name first."""
    certificate = transport.get_extra_info("peercert") or {}
    subject = [
        value
        for parts in certificate.get("subject", ())
        for key, value in parts
        if key == "commonName"
    ]
    return subject + [value for _, value in certificate.get("subjectAltName", ())]
