"""What may fail while a server runs in, its health by name out.

Two things are looked at. Workers: where none is alive (they load again, or keep dying) the server
itself says NOT_SERVING, so that whoever balances goes elsewhere. The online store: a server whose
store is down still answers whoever brings a history, and for a stated while whoever it knows; so
its own health stays as it is, and only the name `store` says NOT_SERVING.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

STORE = "store"  # the name that health is asked for
PERIOD_S = 0.5

log = logging.getLogger(__name__)


class Watched(Protocol):
    """A server, as far as it matters here."""

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""

    @property
    def num_workers(self) -> int:
        """Threads or processes that can compute."""

    async def tell(self, name: str, *, is_serving: bool) -> None:
        """Says so to whoever asks for the health of this name."""


async def watch_store(server: Watched) -> None:
    """Tells every change, until it is cancelled."""
    async for is_up in _changes(lambda: not server.is_degraded):
        await server.tell(STORE, is_serving=is_up)
        if is_up:
            log.info("the online store answers again")
        else:
            log.error("the online store does not answer: histories come from the cache")


async def watch_workers(server: Watched, names: Sequence[str]) -> None:
    """Tells, under these names, whether any worker is alive, until it is cancelled."""
    async for is_able in _changes(lambda: server.num_workers > 0):
        for name in names:
            await server.tell(name, is_serving=is_able)
        if is_able:
            log.info("a worker is alive again: requests are answered")
        else:
            log.error("no worker is alive: requests wait until one has loaded")


async def _changes(is_well: Callable[[], bool]) -> AsyncIterator[bool]:
    """Every change from well to ill or back; it begins well."""
    before = True
    while True:
        await asyncio.sleep(PERIOD_S)
        if (now := is_well()) != before:
            before = now
            yield now
