"""A server and calls in, what the service adds to its model and how it bears load out.

Four parts, each to be had alone by `--only`:

* overhead: CPU time of the whole server for one Rerank / that of the bare scorer on the same
  prompts, in turns: 100 candidates of 4 fused tokens behind 30 events, the shape of 135 million
  weights. Neither side keeps anything from one request to the next.
* noop: a model that costs nothing behind the same server, 200 ids a request, on the loopback; the
  first 10 are returned, as a page shows them, or all; beside gRPC's own server alone, in turns.
* curves: times of calls by candidates and length of the history, open-loop at half of what the
  server can do with each; they run from the moment at which a call was due.
* overload: open-loop at three times what the server can do against once, with the default limits
  and the client's default deadline: answers a second within the deadline, and whether whoever got
  none was told why.

Server and load generator are processes of their own; weights, vectors and prompts are random.
"""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import grpc
from _figures import figure, parser, publish
from _packed_sides import SHAPES
from _service_bare import Bare
from _service_calls import METHOD, Load, messages, run
from _service_server import Served, cpu_seconds
from _service_world import LlmServing, load

from ranker.client import TIMEOUT_S
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb

PARTS = ("overhead", "noop", "curves", "overload")
EVENTS = 30  # of a history, where it is not varied
SIZES = tuple((count, events) for count in (25, 100) for events in (10, 100))
SHARE = 0.5  # of what a server can do: the curves
NOOP_IDS, PAGE = 200, 10
DEFAULTS = {"queue": ServiceLimits().queue}

Values = dict[str, list[float]]


def overhead(asked: Namespace) -> Values:
    """Served against bare, in turns."""
    world: dict[str, Any] = {"written": "tokens", "prefix_cache_mib": 0}
    serving = load(asked.shape, **world)
    assert isinstance(serving, LlmServing)
    bare = Bare(serving)
    calls = Load(
        address="",
        num_candidates=asked.candidates,
        num_events=EVENTS,
        duration_s=0,
        num_users=1 + asked.rounds,
    )
    values: Values = {"overhead": [], "overhead_latency": [], "bare_ms": []}
    with (
        Served(asked.shape, processes=asked.processes, **world) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        rerank = channel.unary_unary(METHOD)
        for message in messages(calls):
            request = pb.RerankRequest.FromString(message)
            prompt = bare.prompt(request.user.user_id, sorted(request.item_ids))
            bare_cpu_s, bare_s = taken(bare.score, prompt, cpu=lambda: cpu_seconds(os.getpid()))
            served_cpu_s, served_s = taken(rerank, message, cpu=server.cpu_seconds)
            values["overhead"].append(served_cpu_s / bare_cpu_s)
            values["overhead_latency"].append(served_s / bare_s)
            values["bare_ms"].append(1e3 * bare_cpu_s)
    return {name: found[1:] for name, found in values.items()}  # the first call pages in


def taken(work: Callable[[Any], Any], given: Any, *, cpu: Callable[[], float]) -> tuple[float, ...]:
    """CPU seconds and seconds."""
    cpu_began, began = cpu(), time.perf_counter()
    work(given)
    seconds = time.perf_counter() - began
    return cpu() - cpu_began, seconds


def noop(asked: Namespace) -> Values:
    """Nothing but the service, and what lies beneath it, in turns."""
    values: Values = {}
    with Served("noop", processes=asked.processes) as ours, Served("echo") as echo:
        sides = (("noop", ours, PAGE), ("noop_all", ours, 0), ("echo", echo, PAGE))
        for _ in range(asked.rounds):
            for name, server, top_k in sides:
                for key, value in costs(server, top_k, seconds=asked.seconds / 3).items():
                    values.setdefault(f"{name}_{key}", []).append(value)
    for key in ("p50_ms", "rps", "cpu_ms"):
        pairs = zip(values[f"noop_{key}"], values[f"echo_{key}"], strict=True)
        values[f"noop_over_echo_{key}"] = [ours / theirs for ours, theirs in pairs]
    return values


def costs(server: Served, top_k: int, *, seconds: float) -> dict[str, float]:
    """Of a call, by one caller at a time and by 16."""
    found = {}
    for callers in (1, 16):
        cpu_began = server.cpu_seconds()
        found[callers] = run(
            Load(
                address=server.address,
                num_candidates=NOOP_IDS,
                num_events=0,
                num_callers=callers,
                top_k=top_k,
                duration_s=seconds,
            )
        )
    spent_s = server.cpu_seconds() - cpu_began
    return {
        "p50_ms": found[1].percentile(50),
        "rps": found[16].goodput,
        "cpu_ms": 1e3 * spent_s / (1 + len(found[16].codes)),
    }


def curves(asked: Namespace) -> Values:
    """Quantiles by size."""
    values: Values = {}
    with Served(
        asked.load_shape, processes=asked.processes, written="tokens", prefix_cache_mib=64
    ) as server:
        for num_candidates, num_events in SIZES:
            size = Load(
                address=server.address,
                num_candidates=num_candidates,
                num_events=num_events,
                duration_s=asked.seconds,
                num_users=1000,
            )
            rate = SHARE * capacity(size)
            found = run(replace(size, rate=rate, seed=1))
            for share in (50, 95, 99):
                name = f"p{share}_ms_c{num_candidates}_h{num_events}"
                values[name] = [found.percentile(share)]
            values[f"calls_c{num_candidates}_h{num_events}"] = [len(found.answered_ms)]
    return values


def overload(asked: Namespace) -> Values:
    """Three times what can be done against once."""
    values: Values = {}
    world: dict[str, Any] = {"written": "tokens", "prefix_cache_mib": 64}
    with Served(asked.load_shape, processes=asked.processes, limits=DEFAULTS, **world) as server:
        size = Load(
            address=server.address,
            num_candidates=asked.overload_candidates,
            num_events=EVENTS,
            duration_s=asked.seconds,
            num_users=1000,
        )
        for n in range(asked.rounds):
            most = capacity(replace(size, seed=10 * n))
            once, thrice = (
                run(replace(size, rate=times * most, deadline_s=TIMEOUT_S, seed=10 * n + times))
                for times in (1, 3)
            )
            if not once.answered_ms:
                raise RuntimeError(
                    f"no call of {size.num_candidates} candidates was answered within "
                    f"{TIMEOUT_S} s: the machine is too busy, or ask for fewer by "
                    f"--overload-candidates"
                )
            for name, value in {
                "goodput_at_3x_over_1x": thrice.goodput / once.goodput,
                "goodput_at_3x_over_capacity": thrice.goodput / most,
                "answered_at_3x_share": len(thrice.answered_ms) / len(thrice.codes),
                "told_why_at_3x": thrice.told_why_share,
                "expired_at_3x_share": thrice.expired_share,
                "p99_ms_at_3x": thrice.percentile(99),
            }.items():
                values.setdefault(name, []).append(value)
    return values


def capacity(size: Load) -> float:
    """The most calls a second that are answered: a few callers, each of whom calls again."""
    found = run(replace(size, num_callers=4))
    assert set(found.codes) == {"OK"}, "a call failed with four callers"
    return found.goodput


MEANINGS = {
    "overhead": "CPU time of a Rerank / of the bare scorer",
    "overhead_latency": "the same in seconds on the clock, the caller's own included",
    "bare_ms": "CPU milliseconds of the bare scorer",
    "noop_p50_ms": "median milliseconds of a call, one at a time, 200 ids, 10 returned",
    "noop_rps": "calls a second, 16 at a time",
    "noop_cpu_ms": "CPU milliseconds of the server a call, 16 at a time",
    "noop_over_echo_p50_ms": "noop_p50_ms / that of gRPC's own server, whose handler does nothing",
    "noop_over_echo_rps": "the same of calls a second",
    "noop_over_echo_cpu_ms": "the same of CPU milliseconds",
    "echo_p50_ms": "as noop_p50_ms, of that server",
    "echo_rps": "as noop_rps, of that server",
    "echo_cpu_ms": "as noop_cpu_ms, of that server",
    "noop_all_p50_ms": "as noop_p50_ms, all 200 returned",
    "noop_all_rps": "as noop_rps, all 200 returned",
    "noop_all_cpu_ms": "as noop_cpu_ms, all 200 returned",
    "goodput_at_3x_over_1x": "answers in time a second, at three times the capacity / at once",
    "goodput_at_3x_over_capacity": "the same / capacity",
    "answered_at_3x_share": "of the calls",
    "told_why_at_3x": "of the calls without an answer: share that knows why",
    "expired_at_3x_share": "of the calls: their deadline passed while they waited",
    "p99_ms_at_3x": "milliseconds of answered calls",
    **{
        f"p{share}_ms_c{count}_h{events}": f"milliseconds: {count} candidates, {events} events"
        for count, events in SIZES
        for share in (50, 95, 99)
    },
    **{f"calls_c{count}_h{events}": "answered calls of that size" for count, events in SIZES},
}


def main() -> None:
    """Measure, print, write."""
    options = parser("The service over its model, alone and under load.")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--shape", choices=SHAPES, default="135m", help="of the overhead")
    options.add_argument("--load-shape", choices=SHAPES, default="15m", help="of the rest")
    options.add_argument("--candidates", type=int, default=100, help="of a call, for the overhead")
    options.add_argument("--overload-candidates", type=int, default=50)
    options.add_argument("--seconds", type=float, default=20.0, help="of every load")
    options.add_argument("--processes", type=int, default=0, help="worker processes of the server")
    options.set_defaults(rounds=3)
    asked = options.parse_args()
    parts: Mapping[str, Callable[[Namespace], Values]] = {
        "overhead": overhead,
        "noop": noop,
        "curves": curves,
        "overload": overload,
    }
    values: Values = {}
    for part in PARTS:
        if part in asked.only:
            values.update(parts[part](asked))
    publish(
        f"The service, {asked.processes or 'no'} worker processes",
        {name: figure(found) for name, found in values.items()},
        {name: MEANINGS[name] for name in values},
        file=asked.json,
        packages=("grpcio", "protobuf", "torch", "transformers"),
    )


if __name__ == "__main__":
    main()
