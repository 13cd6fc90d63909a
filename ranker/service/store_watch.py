"""Whether the online store answers in, the health name `store` out.

A server whose store is down still answers whoever brings a history, and for a stated while whoever
it knows: so the server's own health stays as it is, and only this name says NOT_SERVING.
"""

import asyncio
import logging
from typing import Protocol

STORE = "store"  # the name that health is asked for
PERIOD_S = 0.5

log = logging.getLogger(__name__)


class Watched(Protocol):
    """A server, as far as it matters here."""

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""

    async def tell(self, name: str, *, is_serving: bool) -> None:
        """Says so to whoever asks for the health of this name."""


async def watch_store(server: Watched) -> None:
    """Tells every change, until it is cancelled."""
    is_degraded = False
    while True:
        await asyncio.sleep(PERIOD_S)
        if server.is_degraded == is_degraded:
            continue
        is_degraded = not is_degraded
        await server.tell(STORE, is_serving=not is_degraded)
        if is_degraded:
            log.error("the online store does not answer: histories come from the cache")
        else:
            log.info("the online store answers again")
