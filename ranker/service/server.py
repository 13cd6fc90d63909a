"""One served generation in, a listening gRPC server out.

Three doors to the same server: `serve` in a running event loop, `running` in a thread of its own
(the demo and the tests), `run_until_signal` for a process that does nothing else. Health says
SERVING once requests are answered, and NOT_SERVING from the first moment of a stop, so that
balancers turn away before connections close.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import connections, ports
from ranker.service.authentication import AdmissionInterceptor, Gate
from ranker.service.backends import Backend
from ranker.service.credentials import server_credentials
from ranker.service.exchange import Exchanges
from ranker.service.health_watch import STORE, watch_store, watch_workers
from ranker.service.interceptor import SERVICE_NAME, StatusInterceptor
from ranker.service.metrics import Metrics
from ranker.service.observing import Observing
from ranker.service.ports import PortInUseError
from ranker.service.servicer import RankerService
from ranker.serving import Serving, ServingInfo

if TYPE_CHECKING:
    from ranker.service.rest.server import RestServer

__all__ = ["PortInUseError", "RankerServer", "ServerConfig", "run_until_signal", "running", "serve"]

GENERATION = "generation"  # the name under which health says whether CURRENT can be followed
REST = "HTTP needs FastAPI: pip install 'sommelier[rest]', or unset server.rest_port"


class RankerServer:
    """A started server; made by `serve`."""

    def __init__(
        self,
        *,
        service: RankerService,
        server: grpc.aio.Server,
        watchman: Any,
        observing: Observing,
        rest: "RestServer | None",
        grace_s: float,
    ) -> None:
        self._service = service
        self._server = server
        self._watchman = watchman
        self._observing = observing
        self._rest = rest
        self._grace_s = grace_s
        self.metrics = observing.metrics
        self.loop = asyncio.get_running_loop()
        self.host = ""
        self.port = 0
        self.metrics_port: int | None = None
        self.rest_port: int | None = None
        self._companions: list[asyncio.Task[None]] = []

    @property
    def address(self) -> str:
        """What a client connects to."""
        return ports.address(self.host, self.port)

    @property
    def info(self) -> ServingInfo:
        """The facts of the generation that answers now."""
        return self._service.info

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a worker."""
        return self._service.num_waiting

    def switch(self, served: Backend | Serving) -> Future[None]:
        """Answers from this generation from now on; requests under way keep the one they began.

        May be called from any thread.

        Args:
            served: A loaded generation, for threads of this process, or a backend that is ready.

        Returns:
            What is done once the former backend has answered all it began and is closed. Nobody
            needs to wait for it.
        """
        return asyncio.run_coroutine_threadsafe(self._service.switch(served), self.loop)

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""
        return self._service.is_degraded

    @property
    def num_workers(self) -> int:
        """Threads or processes that can compute."""
        return self._service.num_workers

    async def tell(self, name: str, *, is_serving: bool) -> None:
        """Says so to whoever asks for the health of this name; not any more once it stops."""
        told = health_pb2.HealthCheckResponse
        await self._watchman.set(name, told.SERVING if is_serving else told.NOT_SERVING)

    def accompany(self, work: Coroutine[Any, Any, None]) -> None:
        """Does this beside the requests, and ends it before the server stops."""
        self._companions.append(asyncio.create_task(work))

    async def start(self, config: ServerConfig) -> None:
        """Listens, and says so.

        Raises:
            PortInUseError: another process has the port.
            ValueError: the host is not an address of this machine.
        """
        self.host, self.port = config.host, _bind(self._server, config)
        try:
            if config.metrics_port is not None:
                self.metrics_port = _serve_metrics(self.metrics, config)
            if self._rest is not None:
                self.rest_port = await _serve_rest(self._rest, config)
            await self._server.start()
            for name in ("", SERVICE_NAME, GENERATION, STORE):
                await self.tell(name, is_serving=True)
            self.accompany(watch_store(self))
            self.accompany(watch_workers(self, ("", SERVICE_NAME)))
        except BaseException:
            await self.stop(grace_s=0)
            raise

    async def stop(self, grace_s: float | None = None) -> None:
        """Turns new requests away, ends those under way or cancels them after the grace.

        Returns once no worker runs any more: work that was cancelled ends before its next pass.

        Args:
            grace_s: None takes `server.grace_s`.
        """
        grace_s = self._grace_s if grace_s is None else grace_s
        await self._watchman.enter_graceful_shutdown()
        for companion in self._companions:
            companion.cancel()
        await asyncio.gather(*self._companions, return_exceptions=True)
        rest_stops = [self._rest.stop(grace_s)] if self._rest is not None else []
        await asyncio.gather(self._server.stop(grace_s), *rest_stops)
        await self._service.close()
        await asyncio.to_thread(self._observing.close)


async def serve(
    served: Backend | Serving,
    *,
    config: ServerConfig | None = None,
    limits: ServiceLimits | None = None,
) -> RankerServer:
    """A server that answers; whoever calls this stops it.

    Args:
        served: A loaded generation, for threads of this process, or a backend; the server closes
            it when it stops.
        config: Where it listens.
        limits: What it accepts.

    Raises:
        PortInUseError: another process has the port.
        ValueError: the host is not an address of this machine, or what secures it is no good.
    """
    config, limits, metrics = config or ServerConfig(), limits or ServiceLimits(), Metrics()
    service = RankerService(served, limits=limits, metrics=metrics)
    observing = Observing(config, metrics)
    exchanges = Exchanges(observing.observers)
    metrics.watch_under_way(lambda: exchanges.num_under_way)
    gate = Gate.of(config)
    server = grpc.aio.server(
        interceptors=[StatusInterceptor(exchanges), AdmissionInterceptor(gate)],
        options=connections.options(config, limits),
    )
    watchman: Any = health.aio.HealthServicer()  # type: ignore[attr-defined, unused-ignore]
    pb_grpc.add_RankerServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call, unused-ignore]
    health_pb2_grpc.add_HealthServicer_to_server(watchman, server)
    if config.reflection:
        reflection.enable_server_reflection(
            (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    rest = _rest(config, limits, service, gate=gate, exchanges=exchanges, watchman=watchman)
    started = RankerServer(
        service=service,
        server=server,
        watchman=watchman,
        observing=observing,
        rest=rest,
        grace_s=config.grace_s,
    )
    await started.start(config)
    return started


@contextmanager
def running(
    served: Backend | Serving | Awaitable[Backend],
    *,
    config: ServerConfig | None = None,
    limits: ServiceLimits | None = None,
    grace_s: float | None = None,
) -> Iterator[RankerServer]:
    """A server in a thread of its own, on a free port by default, stopped on leaving.

    `served` may be awaited in the server's own loop first, as `processes(...)` must be.

    Raises:
        PortInUseError: another process has the port.
        ValueError: the host is not an address of this machine, or what secures it is no good.
    """
    started: Future[RankerServer] = Future()
    loop = asyncio.new_event_loop()
    leaving = asyncio.Event()

    async def live() -> None:
        nonlocal served
        try:
            ready = await served if isinstance(served, Awaitable) else served
            server = await serve(ready, config=config or ServerConfig(port=0), limits=limits)
            del ready, served  # the service alone holds it, so that a switch can let it go
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(server)
        await leaving.wait()
        await server.stop(grace_s)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(live())

    thread = threading.Thread(target=run, name="ranker-server", daemon=True)
    thread.start()
    try:
        yield started.result()
    finally:
        if not started.exception():
            loop.call_soon_threadsafe(leaving.set)
        thread.join()


def run_until_signal(
    served: Backend | Serving | Awaitable[Backend],
    *,
    config: ServerConfig | None = None,
    limits: ServiceLimits | None = None,
    grace_s: float | None = None,
    on_start: Callable[[RankerServer], None] = lambda server: None,
) -> None:
    """Serves until SIGTERM or SIGINT, then stops gracefully; from the main thread only.

    `served` may be awaited first, as `processes(...)` must be; a signal ends that, too.

    Raises:
        PortInUseError: another process has the port.
        ValueError: the host is not an address of this machine, or what secures it is no good.
    """

    async def live() -> None:
        nonlocal served
        leaving = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leaving.set)
        ready = await _unless(leaving, served) if isinstance(served, Awaitable) else served
        if ready is None:
            return
        server = await serve(ready, config=config, limits=limits)
        del ready, served  # the service alone holds it, so that a switch can let it go
        try:
            on_start(server)
            await leaving.wait()
        finally:
            await server.stop(grace_s)

    asyncio.run(live())


async def _unless(leaving: asyncio.Event, served: Awaitable[Backend]) -> Backend | None:
    """The backend; None where a signal came first."""
    loading, told = asyncio.ensure_future(served), asyncio.create_task(leaving.wait())
    await asyncio.wait((loading, told), return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        told.cancel()
        return loading.result()
    loading.cancel()
    await asyncio.wait((loading,))
    return None


def _bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    connections.check_exposure(config.host, config)
    credentials, address = server_credentials(config), ports.address(config.host, config.port)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        # gRPC gives one text for every cause; the operating system tells them apart.
        raise ports.why_not(config.host, config.port, setting="server.port") from error


def _serve_metrics(metrics: Metrics, config: ServerConfig) -> int:
    assert config.metrics_port is not None
    try:
        return metrics.serve(host=config.metrics_host, port=config.metrics_port)
    except OSError as error:
        raise ports.refusal(
            error,
            host=config.metrics_host,
            port=config.metrics_port,
            setting="server.metrics_port",
        ) from error


def _rest(
    config: ServerConfig, limits: ServiceLimits, service: RankerService, **parts: Any
) -> "RestServer | None":
    if config.rest_port is None:
        return None
    connections.check_exposure(config.rest_host, config)
    try:
        from ranker.service.rest.app import rest_server
    except ImportError as error:
        raise ImportError(REST) from error
    return rest_server(service, config=config, limits=limits, **parts)


async def _serve_rest(rest: "RestServer", config: ServerConfig) -> int:
    assert config.rest_port is not None
    try:
        return await rest.start()
    except OSError as error:
        raise ports.refusal(
            error, host=config.rest_host, port=config.rest_port, setting="server.rest_port"
        ) from error
