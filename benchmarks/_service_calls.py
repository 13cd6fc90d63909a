"""Calls to make in, what became of each out: a load generator in a process of its own.

Open-loop: calls begin at the moments of a Poisson process, whether or not earlier ones were
answered, and a call's time runs from the moment at which it should have begun; so a server that
falls behind is not spared the calls that it delays. Closed-loop: so many callers at a time, each
of whom calls again at once; that is what measures the most that a server does.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

METHOD = "/sommelier.ranker.v1.RankerService/Rerank"
SPARE_S = 5.0  # beyond the last deadline, before the generator is given up


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to call, and how."""

    address: str
    num_candidates: int
    num_events: int
    """Of every user's history."""
    duration_s: float
    rate: float | None = None
    """Calls a second, open-loop; None is closed-loop."""
    num_callers: int = 1
    """Closed-loop alone."""
    deadline_s: float = 30.0
    top_k: int = 0
    num_users: int = 50
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """By call, in the order of their ends."""

    begun_s: list[float] = field(default_factory=list)
    """From the load's beginning to when the call was due."""
    taken_ms: list[float] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Of calls that were not answered: the ErrorInfo's reason with `+retry` where a RetryInfo says
    when to call again; empty without any."""
    seconds: float = 0.0
    """From the first call to the last answer."""

    @property
    def answered_ms(self) -> list[float]:
        """Of the answered calls."""
        return [ms for ms, code in zip(self.taken_ms, self.codes, strict=True) if code == "OK"]

    @property
    def goodput(self) -> float:
        """Answers a second, within their deadlines."""
        return len(self.answered_ms) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds of answered calls."""
        return float(np.percentile(self.answered_ms, share))

    @property
    def told_why_share(self) -> float:
        """Of the calls that were not answered; 1 where all were."""
        failed = [n for n, code in enumerate(self.codes) if code != "OK"]
        told = [n for n in failed if self.is_told(n)]
        return len(told) / len(failed) if failed else 1.0

    @property
    def expired_share(self) -> float:
        """Of all calls."""
        return self.codes.count("DEADLINE_EXCEEDED") / len(self.codes)

    def is_told(self, n: int) -> bool:
        """Whether the caller knows why, and of a full server when to come again; a passed deadline
        is noticed by the caller's own gRPC, which tells no reason."""
        if self.codes[n] == "RESOURCE_EXHAUSTED":
            return self.reasons[n].endswith("+retry")
        return bool(self.reasons[n]) or self.codes[n] == "DEADLINE_EXCEEDED"


def run(load: Load) -> Outcomes:
    """Call from another process."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(asdict(load))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Outcomes(**json.loads(done.stdout))


def messages(load: Load) -> list[bytes]:
    """One for each user, who brings other items every time."""
    from ranker.pb import ranker_pb2 as pb

    made = []
    for user in range(load.num_users):
        random = np.random.default_rng([load.seed, user])
        rows = random.choice(2000, size=load.num_candidates, replace=False)
        request = pb.RerankRequest(
            user=pb.User(user_id=f"user-{1000 * load.seed + user}-{load.num_events}"),
            item_ids=[f"item-{row:05}" for row in rows],
            top_k=load.top_k,
        )
        made.append(request.SerializeToString())
    return made


class Generator:
    """Calls, and notes."""

    def __init__(self, load: Load, channel: grpc.aio.Channel) -> None:
        self._load = load
        self._call = channel.unary_unary(METHOD)  # bytes: the answers' parsing is the callers' own
        self._messages = messages(load)
        self._began = time.perf_counter()
        self.outcomes = Outcomes()

    async def call(self, n: int, due: float) -> None:
        """The n-th."""
        message, code, reason = self._messages[n % len(self._messages)], "OK", ""
        try:
            await self._call(message, timeout=self._load.deadline_s)
        except grpc.aio.AioRpcError as error:
            code, reason = error.code().name, reason_of(error)
        self.outcomes.begun_s.append(due - self._began)
        self.outcomes.taken_ms.append(1e3 * (time.perf_counter() - due))
        self.outcomes.codes.append(code)
        self.outcomes.reasons.append(reason)

    async def open_loop(self, rate: float) -> None:
        """Every call at its moment."""
        random = np.random.default_rng(self._load.seed)
        self._began = time.perf_counter()
        calls, due = set(), self._began
        while (due := due + random.exponential(1 / rate)) < self._began + self._load.duration_s:
            await asyncio.sleep(due - time.perf_counter())
            calls.add(asyncio.create_task(self.call(len(calls), due)))
        await asyncio.gather(*calls)

    async def closed_loop(self) -> None:
        """Every caller after its own last call."""
        self._began = time.perf_counter()
        numbers = iter(range(sys.maxsize))

        async def caller() -> None:
            while (due := time.perf_counter()) < self._began + self._load.duration_s:
                await self.call(next(numbers), due)

        await asyncio.gather(*(caller() for _ in range(self._load.num_callers)))

    async def go(self) -> dict[str, object]:
        """One call before the clock runs, then all."""
        await self._call(self._messages[-1], timeout=120)
        await (self.closed_loop() if self._load.rate is None else self.open_loop(self._load.rate))
        return {**asdict(self.outcomes), "seconds": time.perf_counter() - self._began}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """From the error's details."""
    status = rpc_status.from_call(error)
    reason, info, retry = "", error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for packed in () if status is None else status.details:
        if packed.Unpack(info):
            reason = info.reason + reason
        elif packed.Unpack(retry):
            reason += "+retry"
    return reason


async def main() -> None:
    """The load as JSON in the first argument; outcomes as JSON on standard output."""
    load = Load(**json.loads(sys.argv[1]))
    async with grpc.aio.insecure_channel(load.address) as channel:
        print(json.dumps(await Generator(load, channel).go()))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    asyncio.run(main())
