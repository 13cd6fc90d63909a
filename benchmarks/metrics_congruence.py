"""Random runs full of ties in, how far our metrics lie from ranx's and ir-measures' out.

Every metric at every k, for every user; the figure is the largest difference of all. ir-measures
takes most of them from trec_eval's own code. Rankings are by score with ties by item id, as
everywhere here; the others break ties otherwise (ranx as its sort happens to, trec_eval by id from
the largest down), so they are given scores that fall strictly (`evaluation.trec.falling`).

As a by-product, what computing all of them takes: CPU seconds of the other by ours, on one thread,
from each side's own native input and with a value for each user as result. ranx compiles itself
first, which takes minutes and is not counted.
"""

import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import warnings  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from datetime import UTC, datetime  # noqa: E402

import ir_measures  # noqa: E402
import numpy as np  # noqa: E402
from _figures import cpu_seconds, figure, parser, publish  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from evaluation.hits import hits  # noqa: E402
from evaluation.judgements import Judgement  # noqa: E402
from evaluation.metrics import METRICS  # noqa: E402
from evaluation.trec import falling  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # numba's and ranx's own
    import ranx

KS = (1, 5, 10, 20, 100)
RANX = {name: name for name in METRICS} | {"hr": "hit_rate"}
IR_MEASURES = {
    "ndcg": ir_measures.nDCG,
    "hr": ir_measures.Success,
    "recall": ir_measures.R,
    "mrr": ir_measures.RR,
    "precision": ir_measures.P,
    "map": ir_measures.AP,
}
MEANINGS = {
    "max_abs_difference_ranx": "largest |ours - ranx| over all metrics, ks and users",
    "max_abs_difference_ir_measures": "largest |ours - ir-measures|",
    "speed_against_ranx": "CPU time of ranx, compiled, by ours",
    "speed_against_ir_measures": "CPU time of ir-measures by ours",
}

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The same run and judgements in everybody's own form."""

    rankings: list[list[str]]
    judgements: list[Judgement]
    scored: dict[str, dict[str, float]]
    qrels: dict[str, dict[str, int]]


def draw(num_users: int, num_items: int, *, seed: int) -> World:
    """Lists of 100 with few distinct scores each; 1 to 12 chosen items, most of them listed."""
    rng = np.random.default_rng(seed)
    items = [f"i{number:05d}" for number in range(num_items)]
    rankings, judgements, scored = [], [], {}
    for number in range(num_users):
        listed_L = rng.permutation(num_items)[:130]
        levels = rng.integers(0, rng.integers(2, 40), size=100)
        by_id = sorted(zip((items[n] for n in listed_L[:100]), levels, strict=True))
        ordered = sorted(by_id, key=lambda one: -one[1])
        ranked = [item_id for item_id, _ in ordered]
        scores = falling([float(level) for _, level in ordered], len(ordered))
        chosen_C = rng.choice(listed_L, size=rng.integers(1, 13), replace=False)
        user_id = f"u{number:06d}"
        rankings.append(ranked)
        scored[user_id] = dict(zip(ranked, scores, strict=True))
        item_ids = frozenset(items[n] for n in chosen_C)
        judgements.append(
            Judgement(user_id=user_id, as_of=datetime(2024, 1, 1, tzinfo=UTC), item_ids=item_ids)
        )
    qrels = {one.user_id: dict.fromkeys(sorted(one.item_ids), 1) for one in judgements}
    return World(rankings=rankings, judgements=judgements, scored=scored, qrels=qrels)


def ours(world: World) -> Values:
    """Our side."""
    table = hits(world.rankings, world.judgements, depth=max(KS))
    return table.values(dict.fromkeys(METRICS, KS))


def of_ranx(qrels: ranx.Qrels, run: ranx.Run) -> Values:
    """ranx, from its own qrels and run."""
    names = {f"{RANX[name]}@{k}": f"{name}@{k}" for name in METRICS for k in KS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ranx.evaluate(qrels, run, list(names), return_mean=False)
    return {names[name]: np.asarray(values) for name, values in found.items()}


def of_ir_measures(world: World) -> Values:
    """ir-measures, from nested dictionaries."""
    measures = {IR_MEASURES[name] @ k: f"{name}@{k}" for name in METRICS for k in KS}
    place = {one.user_id: number for number, one in enumerate(world.judgements)}
    found = {name: np.zeros(len(place)) for name in measures.values()}
    for one in ir_measures.iter_calc(measures, world.qrels, world.scored):
        found[measures[one.measure]][place[one.query_id]] = one.value
    return found


def apart(one: Values, other: Values) -> float:
    """The largest difference of any value."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def rounds(num_rounds: int, num_users: int, num_items: int) -> dict[str, Sequence[float]]:
    """Every figure of every round; each round has a world of its own."""
    found: dict[str, list[float]] = {name: [] for name in MEANINGS}
    for seed in range(num_rounds + 1):
        world = draw(num_users, num_items, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = ranx.Qrels(world.qrels), ranx.Run(world.scored)
        if seed == 0:  # compiles
            of_ranx(*theirs)
            continue
        our_s, mine = cpu_seconds(ours, world)
        ranx_s, ranxs = cpu_seconds(of_ranx, *theirs)
        ir_s, irs = cpu_seconds(of_ir_measures, world)
        found["max_abs_difference_ranx"].append(apart(mine, ranxs))
        found["max_abs_difference_ir_measures"].append(apart(mine, irs))
        found["speed_against_ranx"].append(ranx_s / our_s)
        found["speed_against_ir_measures"].append(ir_s / our_s)
    return found


def main() -> None:
    """Measure and print."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--users", type=int, default=2000)
    options.add_argument("--items", type=int, default=20_000)
    asked = options.parse_args()
    found = rounds(asked.rounds, asked.users, asked.items)
    publish(
        f"Metrics of {asked.users:,} users with 100 items each",
        {name: figure(values) for name, values in found.items()},
        MEANINGS,
        file=asked.json,
        packages=("numpy", "ranx", "ir-measures"),
    )


if __name__ == "__main__":
    main()
