"""A served table for worker processes: who computed is told in `judged_by`, and work can be held.

A held request notes in a folder that it has begun a pass, and waits there until a file lets it go.
A worker does not load while the folder holds another file, and dies of a certain text.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from feature_repo.base import CacheCounts, Unreachable
from ranker.inline import InlineVectors
from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query
from tests.ranker.serving_world import TableServing

LOADER = "tests.ranker.process_world:load"
HELD_BEHAVIOR = "purchase"  # requests that ask about it are held where there is a folder
FATAL_TEXT = "whoever reads this dies"
NOT_YET = "not-yet"  # workers that start wait while the folder holds it
PATIENCE_S = 120.0


class PidServing(TableServing):
    """Tells its process, and holds what is asked about `purchase`."""

    def __init__(self, *, generation_id: str, folder: Path | None) -> None:
        super().__init__(generation_id=generation_id)
        self._folder = folder
        self.caches = {"prefix": CacheCounts(num_hits=3, num_bytes=100)}

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Iterator[Ranking]:
        """As the table has it."""
        if query.text == FATAL_TEXT:
            os.kill(os.getpid(), signal.SIGKILL)
        refined = super().refine(query, candidates, num_explained=num_explained, vectors=vectors)
        for number, ranking in enumerate(refined):
            yield replace(ranking, judged_by=str(os.getpid()))
            if self._folder is not None and query.behavior == HELD_BEHAVIOR:
                self._hold(self._folder, number)

    def _hold(self, folder: Path, number: int) -> None:
        (folder / f"pass-{number}-{os.getpid()}").touch()
        give_up = time.monotonic() + PATIENCE_S
        while not (folder / "go").exists():
            assert time.monotonic() < give_up, "the test never let it go"
            time.sleep(0.002)


def load(*, generation_id: str = "g1", folder: str | None = None, fault: str = "") -> TableServing:
    """What a worker process serves, or how its loading fails."""
    match fault:
        case "value":
            raise ValueError("nothing was published: run `sommelier publish`")
        case "store":
            raise Unreachable("the online store does not answer")
        case "exit":
            os._exit(3)
        case "pid":
            generation_id = f"g{os.getpid()}"
    give_up = time.monotonic() + PATIENCE_S
    while folder is not None and (Path(folder) / NOT_YET).exists():
        assert time.monotonic() < give_up, "the test never let it load"
        time.sleep(0.002)
    return PidServing(generation_id=generation_id, folder=None if folder is None else Path(folder))
