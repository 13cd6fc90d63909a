"""Facts of a server in, a server in a process of its own out: what faults are done to.

    python -m tests.ranker.fault_server '{"work_s": 0.002, "limits": {"queue": 8}}'

prints its address, serves the tables of `serving_world` and stops at SIGTERM. Apart from the tests'
process its memory is its own, and it can be killed. At SIGUSR1 it gives back what memory it does
not need, and says how many blocks Python's own objects still take.
"""

import ctypes
import gc
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from embedders.items import Interaction
from ranker.limits import ServerConfig, ServiceLimits
from ranker.service.server import RankerServer, run_until_signal
from retrieval.candidates import Candidate, Query
from tests.ranker.serving_world import TableServing


class SlowServing(TableServing):
    """Takes the same time for every request, as a model would."""

    def __init__(self, work_s: float) -> None:
        super().__init__()
        self._work_s = work_s

    def score(self, query: Query, item_ids: Sequence[str], **wishes: Any) -> list[Candidate]:
        time.sleep(self._work_s)
        self.reranked.clear()  # what the table notes must not look like a leak
        return super().score(query, item_ids, **wishes)

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        while self.entered.acquire(blocking=False):
            pass
        return super().history(user_id)


def tidy(*_: object) -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    say({"num_blocks": sys.getallocatedblocks()})


def say(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def main(facts: dict[str, Any]) -> None:
    """Serve until told to stop."""

    signal.signal(signal.SIGUSR1, tidy)

    def started(server: RankerServer) -> None:
        say({"address": server.address, "metrics_port": server.metrics_port})

    run_until_signal(
        SlowServing(facts.get("work_s", 0.0)),
        config=ServerConfig(port=0, metrics_port=0, **facts.get("config", {})),
        limits=ServiceLimits(**facts.get("limits", {})),
        grace_s=facts.get("grace_s", 1.0),
        on_start=started,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
