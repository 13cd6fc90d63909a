"""A server under steady load in, what its memory, errors and times do meanwhile out.

Calls come open-loop at 70% of what the server was found to do at the beginning; every second the
resident memory of all its processes is read. `rss_growth` compares the last fifth of the time with
the second fifth: the first is left for caches and the allocator to fill. A call counts as an error
where it was not answered in full within the deadline, whatever the reason.

Ten minutes by default; `--minutes` takes hours as well. On a machine with other work, 70% of what
was found may be more than the server can do later: `--share` asks for less.
"""

import threading
from dataclasses import replace
from statistics import median

import numpy as np
from _figures import figure, parser, publish
from _packed_sides import SHAPES
from _service_calls import Load, Outcomes, run
from _service_server import Served

EVENTS, CANDIDATES = 30, 50
DEADLINE_S = 30.0
FIFTH = 5
WARM_UP_S = 10.0


class Memory:
    """Reads a server's memory every so often, in a thread, until told to stop."""

    def __init__(self, server: Served, *, period_s: float) -> None:
        self._server = server
        self._period_s = period_s
        self._over = threading.Event()
        self.bytes: list[int] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(self._period_s):
            self.bytes.append(self._server.resident_bytes())

    def fifth(self, n: int) -> float:
        """The median of the n-th fifth, from 0."""
        return median(np.array_split(self.bytes, FIFTH)[n].tolist())


def slowest(outcomes: Outcomes, n: int, *, duration_s: float) -> float:
    """The 99th percentile of calls that were due in the n-th fifth, in milliseconds."""
    calls = zip(outcomes.begun_s, outcomes.taken_ms, outcomes.codes, strict=True)
    own = [ms for due, ms, code in calls if code == "OK" and int(FIFTH * due / duration_s) == n]
    return float(np.percentile(own, 99))


MEANINGS = {
    "rss_growth": "resident memory in the last fifth of the time / in the second",
    "errors": "calls that were not answered in time",
    "p99_growth": "99th percentile of the times in the last fifth / in the second",
    "p99_ms": "99th percentile of the times",
    "p50_ms": "median of the times",
    "rss_mb": "resident memory in the last fifth, MB",
    "calls": "that were due",
    "rate": "calls a second, 70% of what was found",
    "minutes": "that it took",
}


def main() -> None:
    """Measure, print, write."""
    options = parser("A server under steady load for minutes or hours.")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--shape", choices=SHAPES, default="15m")
    options.add_argument("--share", type=float, default=0.7, help="of what the server can do")
    options.add_argument("--users", type=int, default=500, help="who come back")
    options.add_argument("--processes", type=int, default=0, help="worker processes of the server")
    asked = options.parse_args()
    duration_s = 60 * asked.minutes
    with Served(
        asked.shape, processes=asked.processes, written="tokens", prefix_cache_mib=64
    ) as server:
        load = Load(
            address=server.address,
            num_candidates=CANDIDATES,
            num_events=EVENTS,
            num_users=asked.users,
            num_callers=max(2, asked.processes),
            duration_s=WARM_UP_S,
            deadline_s=DEADLINE_S,
        )
        rate = asked.share * run(load).goodput
        period_s = min(1.0, duration_s / 50)
        with Memory(server, period_s=period_s) as memory:
            found = run(replace(load, rate=rate, duration_s=duration_s))
    early, late = (slowest(found, n, duration_s=duration_s) for n in (1, FIFTH - 1))
    values = {
        "rss_growth": memory.fifth(FIFTH - 1) / memory.fifth(1),
        "errors": len(found.codes) - len(found.answered_ms),
        "p99_growth": late / early,
        "p99_ms": found.percentile(99),
        "p50_ms": found.percentile(50),
        "rss_mb": memory.fifth(FIFTH - 1) / 1e6,
        "calls": len(found.codes),
        "rate": rate,
        "minutes": found.seconds / 60,
    }
    publish(
        "The service under steady load",
        {name: figure([value]) for name, value in values.items()},
        MEANINGS,
        file=asked.json,
        packages=("grpcio", "torch", "transformers"),
    )


if __name__ == "__main__":
    main()
