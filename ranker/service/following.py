"""CURRENT in, the generation that it names served out: loaded beside the one before, then switched.

The next generation is loaded and checked while the present one answers; from the switch on it gets
all new requests, and the former one ends what it began and is let go. So for a while both are in
memory. One that cannot be loaded is refused: that is told once, health says so under the name
`generation`, and the present one goes on. It is tried again when CURRENT has named another one in
between, except where the online store was what failed: that is no fault of the generation's.

Rolling back is the same: CURRENT names an earlier one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from feature_repo.base import Unreachable
from ranker.generation import GenerationError, Generations
from ranker.service.backends import Backend
from ranker.service.readings import FollowerCounts
from ranker.service.server import GENERATION, RankerServer
from ranker.serving import Serving

DRAIN_S = 60.0  # no third generation is loaded for so long while the last but one still answers
MOST_PATIENCE_S = 60.0  # between two tries while the store is down

log = logging.getLogger(__name__)

Prepare: TypeAlias = Callable[[str], Awaitable[Backend | Serving]]
"""A generation's id -> it, loaded and checked; what it raises is told and refuses it."""


def in_thread(load: Callable[[str], Serving]) -> Prepare:
    """Loads in a thread, for a server that answers in this process."""

    async def prepare(generation_id: str) -> Serving:
        return await asyncio.to_thread(load, generation_id)

    return prepare


class Follower:
    """Keeps one server at the generation that CURRENT names."""

    def __init__(
        self,
        generations: Generations,
        server: RankerServer,
        *,
        prepare: Prepare,
        period_s: float,
    ) -> None:
        """A follower that has not looked yet.

        Args:
            generations: Whose CURRENT is followed.
            server: What is switched.
            prepare: Loads the next one.
            period_s: How often CURRENT is read.
        """
        self._generations = generations
        self._server = server
        self._prepare = prepare
        self._period_s = period_s
        self._refused: str | None = None  # what CURRENT said when it was last told that it is bad
        self._num_tries = 0
        self._next_try = 0.0
        self._counts = FollowerCounts(num_switched=0, num_refused=0)
        server.metrics.watch_follower(lambda: self._counts)

    @property
    def counts(self) -> FollowerCounts:
        """Switches and refusals so far."""
        return self._counts

    @property
    def _served(self) -> str:
        return self._server.info.generation_id

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.look()
            except Exception:  # a look that fails must not be the last one
                log.exception("CURRENT could not be followed; it is looked at again")

    async def look(self) -> None:
        """Reads CURRENT, and has what it names served."""
        try:
            named = await asyncio.to_thread(self._generations.current_id)
        except GenerationError as error:
            await self._refuse("", error)
            return
        if named == self._served:
            await self._agree()
        elif named != self._refused and time.monotonic() >= self._next_try:
            await self._follow(named)

    async def _follow(self, named: str) -> None:
        former = self._served
        log.info("CURRENT names generation %s: loading it beside %s", named, former)
        try:
            prepared = await self._prepare(named)
        except Unreachable as error:
            await self._wait_for_the_store(named, error)
            return
        except Exception as error:
            await self._refuse(named, error)
            return
        if await asyncio.to_thread(self._names_another, named):
            log.info("CURRENT no longer names generation %s: it is left", named)
            if isinstance(prepared, Backend):
                await prepared.close()
            return
        drained = asyncio.wrap_future(self._server.switch(prepared))
        del prepared  # the server alone holds it, so that it can let it go one day
        log.info("generation %s is served in the place of %s", named, former)
        self._counts = FollowerCounts(
            num_switched=self._counts.num_switched + 1, num_refused=self._counts.num_refused
        )
        await self._agree()
        await asyncio.wait([drained], timeout=DRAIN_S)

    def _names_another(self, named: str) -> bool:
        """Whether CURRENT was pointed elsewhere meanwhile; unreadable, it says nothing."""
        try:
            return self._generations.current_id() != named
        except GenerationError:
            return False

    async def _agree(self) -> None:
        """What is served is what CURRENT names."""
        self._refused, self._num_tries, self._next_try = None, 0, 0.0
        await self._server.tell(GENERATION, is_serving=True)

    async def _refuse(self, named: str, error: Exception) -> None:
        if named == self._refused:
            return
        self._refused = named
        self._counts = FollowerCounts(
            num_switched=self._counts.num_switched, num_refused=self._counts.num_refused + 1
        )
        await self._server.tell(GENERATION, is_serving=False)
        # What a person can mend needs no traceback.
        cause = None if isinstance(error, ValueError) else error
        what = f"generation {named} is refused" if named else "CURRENT cannot be followed"
        log.error("%s, and %s goes on: %s", what, self._served, error, exc_info=cause)

    async def _wait_for_the_store(self, named: str, error: Exception) -> None:
        """Tries later, and later each time."""
        self._num_tries += 1
        patience_s = min(MOST_PATIENCE_S, self._period_s * 2**self._num_tries)
        self._next_try = time.monotonic() + patience_s
        await self._server.tell(GENERATION, is_serving=False)
        log.warning(
            "generation %s cannot be loaded while the store is down, and %s goes on; the next try "
            "is in %.0f s: %s",
            *(named, self._served, patience_s, error),
        )
