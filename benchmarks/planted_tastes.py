"""A shop whose tastes are known in, whether the route finds them and says where they lie out.

In the demo shop a box's picture trait shows only in its label, its sound trait only in its tune,
its words trait only in its description, and its circle nowhere but in who bought what. Here every
user cares for one of the four alone (`ShopConfig.has_one_taste`), and likes two of its eight
values. So of every recommended box that a user likes it is known in which modality the liking lies.

* *Recovered*: NDCG@10 of all boxes with a liked value, over the users who care for that trait: the
  whole route against the route without the modality that shows it (for circles: without the graph
  and the network over histories, which both learn from who bought what). These two know of boxes
  that were bought what is on their labels, too; so what content finds is also measured by content
  alone, with them left out on both sides.
* *Hit*: over a user's first 10 boxes that have a liked value and the modality that shows it, the
  share in which that modality has the largest Shapley value. The graph and the network know, of
  boxes that were bought, every trait that buyers go by, pictures too: their vectors repeat what
  the content says, and Shapley values share what is said twice. So a content modality is compared
  with the other content modalities (a third would be chance), and a circle is hit where the graph
  or the network adds more than any content modality. The strict share compares with all blocks.
* *Content alone*: the same where retrieval may search content alone (`Query.modalities`), so that
  nothing but the item's fused tokens knows of its buyers; compared with all blocks.

Beside it stands the plain cosine: how often the planted modality has the largest cosine with the
query among content modalities. What is fitted is fitted before the cut; `truth.json` is read by
nothing but this file. Shares and NDCG are means over users, intervals 95% bootstraps over users.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _figures import Figure, parser, publish
from numpy.typing import NDArray

from embedders.items import Modality
from evaluation.history import seen_before
from evaluation.metrics import ndcg
from evaluation.significance import Interval, bootstrap, paired_bootstrap
from ranker.loaded import LoadedGeneration
from ranker.ranking import Ranking
from retrieval.candidates import Query
from retrieval.concatenated import SEQUENCE
from sommelier import presets, settings_file
from sommelier.commands.options import terminal
from sommelier.commented import commented
from sommelier.console import ConsoleWatch
from sommelier.demo import shop as demo_shop
from sommelier.demo.tour import STAGES
from sommelier.effort import Effort
from sommelier.evaluating.asked import AskedQueries
from sommelier.evaluating.evaluate import judged
from sommelier.serve import loaded
from sommelier.watch import Unwatched, Watch
from sommelier.workspace import Workspace

CONTENT = {"picture": "image", "sound": "audio", "words": "text"}
"""Trait -> the modality that alone shows it."""
CIRCLE = "circle"
BEHAVIORAL = (str(Modality.GRAPH), SEQUENCE)
"""The blocks that learn from who bought what."""
SHOWN = 10
NUM_CANDIDATES = 100
PACKAGES = ("torch", "transformers", "peft", "torch-geometric", "sentence-transformers", "numpy")

Values = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What was planted."""

    traits: Mapping[str, Mapping[str, int]]
    """Item -> trait -> value."""
    likes: Mapping[str, Sequence[Sequence[float]]]
    """User -> how much each value of each trait is liked."""

    @classmethod
    def read(cls, catalog: Path) -> "Truth":
        facts = json.loads((catalog / "truth.json").read_text())
        return cls(traits=facts["traits"], likes=facts["tastes"])

    def trait(self, user_id: str) -> str:
        """The one that the user cares for."""
        (cared,) = (
            name
            for name, likes_V in zip(demo_shop.TRAITS, self.likes[user_id], strict=True)
            if max(likes_V) > 0
        )
        return cared

    def likes_item(self, user_id: str, item_id: str) -> bool:
        """Whether the item has a liked value of the trait that the user cares for."""
        trait = self.trait(user_id)
        likes_V = self.likes[user_id][demo_shop.TRAITS.index(trait)]
        return likes_V[self.traits[item_id][trait]] > 0


def shop(out: Path, *, seed: int, effort: Effort, watch: Watch, config: demo_shop.ShopConfig,
         overrides: Sequence[str] = ()) -> Workspace:  # fmt: skip
    """The published workspace of a shop of single tastes; what is there is used again."""
    folder = out / f"seed{seed}"
    settings = presets.for_catalog(None, effort=effort)
    seeds = [f"{name}.seed={seed}" for name in ("graph", "sequence", "ranker.training")]
    settings = settings_file.overridden(settings, [*seeds, *overrides])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sommelier.toml"
    path.write_text(commented(settings), encoding="utf-8")
    workspace = Workspace(settings_file.load(path))
    if not (workspace.settings.catalog.path / "truth.json").exists():
        demo_shop.write(
            workspace.settings.catalog.path, config=replace(config, seed=seed, has_one_taste=True)
        )
    for heading, stage in STAGES:
        watch.heading(heading)
        watch.show(stage(workspace, watch=watch))
    return workspace


def queries(workspace: Workspace, *, limit: int) -> list[Query]:
    """The first users by id who chose something after the cut, as they are asked then."""
    judgements = judged(workspace).judgements[:limit]
    return list(
        AskedQueries(
            judgements,
            histories=workspace.histories,
            seen=seen_before(workspace.timed_interactions, judgements),
        )
    )


def ranked(
    serving: LoadedGeneration, asked: Sequence[Query], *, num_explained: int = 0
) -> list[Ranking]:
    """Each user's candidates, reranked."""
    found = serving.retrieve_many(asked, limit=NUM_CANDIDATES)
    return [
        serving.rerank(query, candidates, num_explained=num_explained)
        for query, candidates in zip(asked, found, strict=True)
    ]


def recovered(
    truth: Truth, asked: Sequence[Query], rankings: Sequence[Ranking], trait: str
) -> NDArray[np.float64]:
    """NDCG@10 of all boxes that are liked and were not met, of the users who care for the trait."""
    values = []
    for query, ranking in zip(asked, rankings, strict=True):
        if truth.trait(query.user_id) == trait:
            liked = {one for one in truth.traits if truth.likes_item(query.user_id, one)}
            order = [item.item_id for item in ranking.items]
            values.append(ndcg(order, liked - query.exclude, SHOWN))
    return np.array(values)


def hits(
    truth: Truth, asked: Sequence[Query], rankings: Sequence[Ranking], *, is_strict: bool
) -> Values:
    """Trait -> each user's share of planted items whose largest contribution is where it lies."""
    found: Values = defaultdict(list)
    for query, ranking in zip(asked, rankings, strict=True):
        trait = truth.trait(query.user_id)
        own = [
            _is_hit(item.explanation.contributions, trait, is_strict=is_strict)
            for item in ranking.items[:SHOWN]
            if item.explanation is not None
            and truth.likes_item(query.user_id, item.item_id)
            and _shows(item.present, trait)
        ]
        if own:
            found[trait].append(float(np.mean(own)))
    return found


def _shows(present: Sequence[Modality], trait: str) -> bool:
    """Whether the item has the modality that the trait lies in."""
    return CONTENT.get(trait, str(Modality.GRAPH)) in {str(one) for one in present}


def _is_hit(values: Mapping[str, float], trait: str, *, is_strict: bool) -> bool:
    content = {name: values.get(name, 0.0) for name in CONTENT.values()}
    behavioral = {name: values.get(name, 0.0) for name in BEHAVIORAL}
    if trait == CIRCLE:
        return max(behavioral.values()) > max(content.values())
    rivals = {**content, **(behavioral if is_strict else {})}
    planted = rivals.pop(CONTENT[trait])
    return planted > max(rivals.values())


def cosine_hits(
    serving: LoadedGeneration, truth: Truth, asked: Sequence[Query], rankings: Sequence[Ranking]
) -> Values:
    """The same by the largest cosine among content modalities: what no ranker is needed for."""
    found: Values = defaultdict(list)
    for query, ranking in zip(asked, rankings, strict=True):
        trait = truth.trait(query.user_id)
        if trait == CIRCLE:
            continue
        present = {item.item_id: item.present for item in ranking.items[:SHOWN]}
        own = [
            _is_hit(one.evidence, trait, is_strict=False)
            for one in serving.score(query, list(present))
            if truth.likes_item(query.user_id, one.item_id) and _shows(present[one.item_id], trait)
        ]
        if own:
            found[trait].append(float(np.mean(own)))
    return found


def without(serving: LoadedGeneration, *names: str) -> LoadedGeneration:
    """The route without these blocks."""
    for name in names:
        if name in serving.retrieval.item_vectors.names:
            serving = serving.without(name)
    return serving


def measure(
    workspace: Workspace, *, num_users: int, watch: Watch
) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures of one shop, each with what it means."""
    truth = Truth.read(workspace.settings.catalog.path)
    serving = loaded(workspace, watch=watch, online=False)
    asked = queries(workspace, limit=num_users)
    rankings = ranked(serving, asked, num_explained=SHOWN)
    content = frozenset(CONTENT.values())
    alone = [replace(query, modalities=content) for query in asked]
    table = Table()
    table.add_hits("planted", hits(truth, asked, rankings, is_strict=False), "hit")
    table.add_hits("strict", hits(truth, asked, rankings, is_strict=True), "hit among all blocks")
    table.add_hits("cosine", cosine_hits(serving, truth, asked, rankings), "largest cosine")
    own = hits(truth, alone, ranked(serving, alone, num_explained=SHOWN), is_strict=True)
    own.pop(CIRCLE, None)
    table.add_hits("content_alone", own, "hit among all blocks, retrieval by content alone")
    add_recovered(table, truth, asked, rankings, serving)
    return table.figures, table.meanings


def add_recovered(
    table: "Table",
    truth: Truth,
    asked: Sequence[Query],
    rankings: Sequence[Ranking],
    serving: LoadedGeneration,
) -> None:
    """What each trait's modality adds to finding it: beside all others, and beside content."""
    by_content = without(serving, *BEHAVIORAL)
    of_content = ranked(by_content, asked)
    for trait in demo_shop.TRAITS:
        shown_by = (CONTENT[trait],) if trait in CONTENT else BEHAVIORAL
        whole = recovered(truth, asked, rankings, trait)
        less = recovered(truth, asked, ranked(without(serving, *shown_by), asked), trait)
        table.add_gain(trait, whole, less)
        if trait in CONTENT:
            whole = recovered(truth, asked, of_content, trait)
            less = recovered(truth, asked, ranked(without(by_content, *shown_by), asked), trait)
            table.add_gain(trait, whole, less, name=f"{trait}_content")


class Table:
    """Collects figures with their meanings."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.meanings: dict[str, str] = {}

    def add_hits(self, name: str, found: Mapping[str, Sequence[float]], meaning: str) -> None:
        """Shares over all users, and by trait."""
        every = [value for values in found.values() for value in values]
        self._add(f"{name}_hit_share", every, f"{meaning}: all traits, {len(every)} users")
        for trait in demo_shop.TRAITS:
            if values := found.get(trait):
                where = f"{trait} ({CONTENT.get(trait, 'graph or sequence')})"
                self._add(f"{name}_hit_share_{trait}", values, f"{where}, {len(values)} users")

    def add_gain(
        self,
        trait: str,
        whole: NDArray[np.float64],
        less: NDArray[np.float64],
        *,
        name: str | None = None,
    ) -> None:
        """NDCG of a route, without what shows the trait, and the difference."""
        shows = CONTENT.get(trait, " and ".join(BEHAVIORAL))
        route = "the whole route" if name is None else "content alone"
        name = name or trait
        self._add(f"{name}_ndcg_at_10", whole, f"{trait} found by {route}, {len(whole)} users")
        self._add(f"{name}_ndcg_at_10_without", less, f"the same without {shows}")
        self.figures[f"{name}_ndcg_gain"] = _figure(paired_bootstrap(whole, less))
        self.meanings[f"{name}_ndcg_gain"] = f"what {shows} adds; paired"

    def _add(self, name: str, values: Sequence[float] | NDArray[np.float64], meaning: str) -> None:
        self.figures[name] = _figure(bootstrap(np.asarray(values, dtype=np.float64)))
        self.meanings[name] = meaning


def _figure(one: Interval) -> Figure:
    return {"median": one.mean, "low": one.low, "high": one.high}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--out", type=Path, default=Path("build/planted_tastes"))
    options.add_argument("--seed", type=int, default=0, help="of the shop and of all training")
    options.add_argument("--users", type=int, default=300, help="how many are asked at most")
    options.add_argument("--effort", type=Effort, choices=list(Effort), default=Effort.QUICK)
    options.add_argument("--set", action="append", default=[], metavar="A.B=C", help="a setting")
    given = options.parse_args()
    watch = ConsoleWatch(terminal())
    workspace = shop(
        given.out.absolute(), seed=given.seed, effort=given.effort, watch=watch,
        config=demo_shop.ShopConfig(), overrides=given.set,
    )  # fmt: skip
    figures, meanings = measure(workspace, num_users=given.users, watch=Unwatched())
    publish(
        "Planted tastes: means over users in the place of medians, with 95% intervals",
        figures,
        meanings,
        file=given.json,
        packages=PACKAGES,
    )


if __name__ == "__main__":
    main()
