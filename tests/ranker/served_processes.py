"""A launch and a number of worker processes in, a server over them in a thread of its own out."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ranker.limits import ServerConfig, ServiceLimits
from ranker.service.processes import Launch, Processes, processes
from ranker.service.server import RankerServer, serve

PATIENCE_S = 120


@contextmanager
def served(
    launch: Launch, *, num: int, limits: ServiceLimits | None = None
) -> Iterator[tuple[RankerServer, Processes]]:
    """The started server and its workers; both are ended on leaving."""
    loop_thread = ThreadPoolExecutor(1)
    started: Future[tuple[RankerServer, Processes]] = Future()
    leaving: Future[None] = Future()

    async def live() -> None:
        try:
            backend = await processes(launch, num=num, limits=limits)
            server = await serve(backend, config=ServerConfig(port=0), limits=limits)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result((server, backend))
        await asyncio.wrap_future(leaving)
        await server.stop(grace_s=0)

    lived = loop_thread.submit(lambda: asyncio.run(live()))
    try:
        yield started.result(timeout=PATIENCE_S)
    finally:
        leaving.set_result(None)
        lived.result(timeout=PATIENCE_S)
        loop_thread.shutdown()
