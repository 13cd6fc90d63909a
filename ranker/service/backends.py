"""Calls in, response messages out, from one generation: the contract of those who compute.

The servicer checks a call in the event loop and hands it to the backend that answers now. Threads
of the server's process (`ranker.service.in_process`) share one loaded generation; worker processes
(`ranker.service.processes`) load it once each.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

from feature_repo.base import CacheCounts
from ranker.service.call import Call, Response
from ranker.service.readings import WorkerCounts
from ranker.service.workers import Job
from ranker.serving import ServingInfo

Told: TypeAlias = Response | BaseException | None
"""What a worker tells of a call: responses, then its end (None) or what went wrong."""


class Backend(ABC):
    """Answers calls from one generation. Used from one event loop."""

    @property
    @abstractmethod
    def info(self) -> ServingInfo:
        """The generation's facts."""

    @property
    @abstractmethod
    def num_waiting(self) -> int:
        """Calls that wait for a worker."""

    @property
    @abstractmethod
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it; from any thread."""

    @property
    @abstractmethod
    def caches(self) -> Mapping[str, CacheCounts]:
        """What is kept for later calls, by the caches' names; from any thread."""

    @property
    @abstractmethod
    def counts(self) -> WorkerCounts:
        """Those that compute; read from any thread."""

    @abstractmethod
    def answers(self, call: Call, job: Job) -> AsyncIterator[Response]:
        """One response, or the several of StreamRerank, each a message of its own.

        Who stops listening should also `drop` the job: the work then ends before its next pass.

        Raises:
            StatusError: refused, out of time, or the worker died.
            Exception: whatever the work raised.
        """

    @abstractmethod
    async def close(self) -> None:
        """Ends what runs and refuses what waits; returns once no worker is left."""
