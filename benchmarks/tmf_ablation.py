"""Two catalogs in, what fusing modalities into an LLM's tokens is worth to its choices out.

TMF (arXiv 2410.12228) claims that items told to an LLM by text, image and graph together are
chosen from better than by any of them, and by any of them better than in words alone; and that
both of its attentions matter. Its data are private. Here that is asked of `lastfm` and `movielens`
with the product's own ranker, the same lists for all: HR@1 among 20 candidates, drawn evenly as in
LLaRA, and NDCG@10 of 100 retrieved ones. The LLM is alone with the items; what the retriever adds
says the row `system`.

Every adapter is kept under `build/tmf_ablation`, as is what it measured: a second run goes on.
`--split valid` is for choosing settings.
"""

import hashlib
import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from _figures import Figure, cpu_seconds, data_folder, figure, parser, publish
from _tmf_measures import Measured, drawn, measure, spread
from _tmf_models import VARIANTS, Score, adapter, config_of, items_of, retrieved, scorer
from _tmf_sets import Asked, Moments, load, short_lists
from _tmf_worlds import World, build, retriever

from embedders.items import Modality
from evaluation.significance import paired_bootstrap
from ranker import tokens
from ranker.config import RankerConfig
from retrieval.candidates import Query
from retrieval.popularity import Popular, popularity
from retrieval.retriever import Retriever

CACHE = Path(__file__).parents[1] / "build" / "tmf_ablation"
SETS = ("lastfm", "movielens")
GROUPS = {
    "chain": ("popularity", "retriever", "fused", "graph", "text", "titles", "audio", "image"),
    "attention": ("no_cma", "no_amsa", "no_cma_no_amsa"),
    "tokens": ("tokens_1", "tokens_2", "tokens_8"),
    "written": ("both", "system", "no_levels"),
}
"""In the order in which they are trained."""
UNTRAINED = ("popularity", "retriever")
NUM_RETRIEVED = 100
NUM_QUICK = 20  # users that are asked for where all is only tried out
NUM_TIMED = 40  # users whose lists are scored for the time it takes


@dataclass(kw_only=True)
class Bench:
    """One set and seed; what is costly is made when it is asked for first."""

    name: str
    seed: int
    moments: Moments
    split: str
    num_retrieved: int
    quick: bool = False
    learning_rate: float | None = None
    """Another than the set's."""
    lists: list[list[tuple[str, ...]]] = field(init=False)

    def __post_init__(self) -> None:
        self.lists = short_lists(self.asked, self.moments.item_ids)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Who is judged."""
        asked = self.moments.test if self.split == "test" else self.moments.valid
        return asked[:NUM_QUICK] if self.quick else asked

    @cached_property
    def world(self) -> World:
        return build(self.name, self.moments, seed=self.seed, folder=CACHE)

    @cached_property
    def found(self) -> Retriever:
        return retriever(self.world)

    @cached_property
    def retrieved(self) -> dict[str, tuple[str, ...]]:
        """What the retriever finds for a drawn part of the users."""
        kept = drawn(self.asked, self.num_retrieved)
        asked = [one for one in self.asked if one.user_id in kept]
        queries = [Query(user_id=one.user_id, history=one.history) for one in asked]
        lists = self.found.retrieve_ids(queries, limit=NUM_RETRIEVED)
        return {one.user_id: tuple(ids) for one, (ids, _) in zip(asked, lists, strict=True)}

    def has(self, variant: str) -> bool:
        """Whether the set has the modality that a variant is about."""
        return variant != Modality.IMAGE or self.name == "movielens"

    def config(self, variant: str) -> RankerConfig:
        """What a variant is trained with."""
        config = config_of(self.name, VARIANTS[variant], seed=self.seed, quick=self.quick)
        rate = self.learning_rate or config.training.learning_rate
        return replace(config, training=replace(config.training, learning_rate=rate))

    def score(self, variant: str, *, absent: frozenset[str] = frozenset()) -> Score:
        """A trained system, or one of those that need no training."""
        if variant == "popularity":
            counts = popularity(self.moments.graph_events, until=None)
            shares = Popular(counts, self.moments.item_ids).shares
            return lambda _, item_ids: {item_id: shares[item_id] for item_id in item_ids}
        if variant == "retriever":
            return retrieved(self.found)
        switches = VARIANTS[variant]
        found = self.found if switches.has_evidence else None
        return scorer(self.world, switches, self.adapter(variant), found=found, absent=absent)

    def adapter(self, variant: str) -> Path:
        """Of a variant that is trained."""
        switches, config = VARIANTS[variant], self.config(variant)
        found = self.found if switches.has_evidence else None
        shown = f"{self.name} {variant} seed {self.seed}"
        return adapter(self.world, switches, config, found=found, on_progress=_told(shown))

    def spread(self, variant: str) -> float:
        """How far the items' tokens of a trained variant spread."""
        items = items_of(self.world, VARIANTS[variant])
        return spread(tokens.fuse(self.adapter(variant), items).vectors_ND)

    def measured(self, variant: str, *, absent: frozenset[str] = frozenset()) -> Measured:
        """What a system reaches, computed once."""
        facts = [variant, sorted(absent), self.seed, self.split, self.num_retrieved, self.quick]
        if variant not in UNTRAINED:
            facts.append(repr(self.config(variant)))
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
        path = CACHE / "measured" / f"{self.name}-{variant}-{self.seed}-{digest}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            return Measured(hr_U=np.array(kept["hr"]), ndcg_U=np.array(kept["ndcg"]))
        made = measure(
            self.asked,
            self.lists,
            self.score(variant, absent=absent),
            found={} if absent else self.retrieved,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {"hr": made.hr_U.tolist(), "ndcg": made.ndcg_U.tolist()}
        path.write_text(json.dumps(values), encoding="utf-8")
        without = f" without {', '.join(sorted(absent))}" if absent else ""
        shown = f"{self.name} {variant}{without} seed {self.seed}: HR@1 {made.hr_U.mean():.4f}"
        print(
            shown + (f", NDCG@10 {made.ndcg_U.mean():.4f}" if len(made.ndcg_U) else ""), flush=True
        )
        return made


def _told(shown: str) -> Callable[[str, int, int, float], None]:
    def told(stage: str, step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"  {shown}, {stage}: {step} of {steps}, loss {loss:.3f}", flush=True)

    return told


Figures = dict[str, Figure]
Meanings = dict[str, str]


def systems(
    benches: Sequence[Bench], variants: Sequence[str], figures: Figures, meanings: Meanings
) -> None:
    """Each variant by itself, over the seeds; and full fusion less each of the others."""
    fused = [bench.measured("fused") for bench in benches]
    for variant in variants:
        found = [bench.measured(variant) for bench in benches]
        for measure_of, values in (
            ("hr_at_1", [one.hr_U for one in found]),
            ("ndcg_at_10", [one.ndcg_U for one in found]),
        ):
            name = f"{benches[0].name}_{variant}_{measure_of}"
            figures[name] = figure([float(one.mean()) for one in values])
            meanings[name] = f"{len(values[0])} users, {len(values)} seeds"
            if variant == "fused":
                continue
            base = [one.hr_U if measure_of == "hr_at_1" else one.ndcg_U for one in fused]
            gain = paired_bootstrap(np.mean(base, axis=0), np.mean(values, axis=0))
            name = f"{benches[0].name}_fused_over_{variant}_{measure_of}"
            figures[name] = {"median": gain.mean, "low": gain.low, "high": gain.high}
            meanings[name] = "mean over users and seeds; 95% paired bootstrap over users"


def spreads(
    benches: Sequence[Bench], variants: Sequence[str], figures: Figures, meanings: Meanings
) -> None:
    """How far each variant's tokens spread: where training leaves but a line or two, it is not
    done, and what it reaches says little of the variant."""
    for variant in variants:
        if variant not in UNTRAINED and VARIANTS[variant].written != "titles":
            name = f"{benches[0].name}_{variant}_spread"
            figures[name] = figure([bench.spread(variant) for bench in benches])
            meanings[name] = "directions along which items' tokens differ"


def subsets(modalities: Sequence[str]) -> Iterator[frozenset[str]]:
    """What may be absent: one modality, then two, ..., all but one."""
    for count in range(1, len(modalities)):
        yield from map(frozenset, combinations(modalities, count))


def absences(benches: Sequence[Bench], figures: Figures, meanings: Meanings) -> None:
    """What the one fused adapter loses where modalities are absent from every item."""
    whole = np.mean([bench.measured("fused").hr_U for bench in benches], axis=0)
    for absent in subsets(benches[0].world.items.names):
        found = [bench.measured("fused", absent=absent).hr_U for bench in benches]
        loss = paired_bootstrap(np.mean(found, axis=0), whole)
        name = f"{benches[0].name}_without_{'_'.join(sorted(absent))}"
        figures[f"{name}_hr_at_1"] = figure([float(one.mean()) for one in found])
        meanings[f"{name}_hr_at_1"] = "the fused adapter, asked without them"
        figures[f"{name}_costs"] = {"median": loss.mean, "low": loss.low, "high": loss.high}
        meanings[f"{name}_costs"] = "HR@1 less that with all; 95% paired bootstrap over users"


def times(
    bench: Bench, variants: Sequence[str], rounds: int, figures: Figures, meanings: Meanings
) -> None:
    """CPU time of scoring users' lists, as a multiple of the fused adapter's, in turns."""
    scores = {variant: bench.score(variant) for variant in ("fused", *variants)}
    asked = bench.asked[:NUM_TIMED]
    needed = [sorted({one for row in own for one in row}) for own in bench.lists[:NUM_TIMED]]

    def work(score: Score) -> None:
        for one, item_ids in zip(asked, needed, strict=True):
            score(one, item_ids)

    taken: dict[str, list[float]] = {variant: [] for variant in scores}
    for variant in scores:
        work(scores[variant])  # tokenizing is cached, for a server is asked again and again
    for _ in range(rounds):
        for variant in scores:
            taken[variant].append(cpu_seconds(work, scores[variant])[0])
    for variant in variants:
        name = f"{bench.name}_{variant}_time"
        ratios = [a / b for a, b in zip(taken[variant], taken["fused"], strict=True)]
        figures[name] = figure(ratios)
        meanings[name] = f"CPU time of scoring {NUM_TIMED} users' lists / that of fused"


def asked_for() -> Namespace:
    """The command line."""
    options = parser(__doc__ or "")
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    options.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    known = [*UNTRAINED, *VARIANTS]
    options.add_argument(
        "--variants", nargs="+", choices=known, help="these alone, and no absent modalities"
    )
    options.add_argument("--learning-rate", type=float, help="another than the set's")
    options.add_argument("--split", choices=["valid", "test"], default="test")
    options.add_argument("--retrieved", type=int, default=300, help="users to rerank for")
    options.add_argument("--quick", action="store_true", help="a few steps, to try it out")
    options.add_argument("--untimed", action="store_true", help="leave out what scoring takes")
    given: Namespace = options.parse_args()
    return given


def main() -> None:
    given = asked_for()
    folder = data_folder()
    torch.set_num_threads(1)
    moments = {name: load(folder / name) for name in given.sets}
    benches = [
        Bench(
            name=n,
            seed=s,
            moments=moments[n],
            split=given.split,
            num_retrieved=given.retrieved,
            quick=given.quick,
            learning_rate=given.learning_rate,
        )
        for s in given.seeds
        for n in given.sets
    ]
    groups = [given.variants] if given.variants else [GROUPS[group] for group in given.groups]
    for group in groups:  # trained in the order in which they matter, all sets side by side
        for bench in benches:
            for variant in filter(bench.has, group):
                bench.measured(variant)
    figures: Figures = {}
    meanings: Meanings = {}
    for name in given.sets:
        own = [bench for bench in benches if bench.name == name]
        variants = [one for group in groups for one in group if own[0].has(one)]
        systems(own, variants, figures, meanings)
        spreads(own, variants, figures, meanings)
        if not given.variants:
            absences(own, figures, meanings)
        slow = [one for one in variants if one.startswith("tokens_") or one in ("titles", "both")]
        if not given.untimed:
            times(own[0], slow, given.rounds, figures, meanings)
    publish(
        "TMF's claim: modalities fused into an LLM's tokens",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "transformers", "peft", "numpy"),
    )


if __name__ == "__main__":
    main()
