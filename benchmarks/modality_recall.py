"""Two catalogs in, what each modality adds to the recall of the concatenated index out.

`lastfm` has a given split (train, valid, test become bands of one clock, `evaluation.order`), and
brought vectors of sound and tags; `movielens` is cut in time, with brought vectors of trailers and
posters, texts by all-MiniLM-L6-v2, and an order that the sequence encoder can learn from. The
graph, and the sequence encoder, learn from what came before `graph_until`; the weights of each
index are fitted on the choices between it and the cut; what is reported are the choices from the
cut on, once. Each index of fewer blocks has its own fit, so that it is as good as it can be.

Items that nobody had touched get a graph vector from what they resemble, as in the product. A cold
item has no event before the cut: its recall is over the users who chose one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from _figures import Figure, data_folder, figure, parser, publish
from numpy.typing import NDArray

from embedders.catalog import Catalog, read
from embedders.graph_config import GraphConfig
from embedders.imputed import impute
from embedders.items import Interaction, Modality
from embedders.registry import EncoderConfig, create, fit_graph
from embedders.vectors import Embeddings
from evaluation.judgements import Judgement
from evaluation.metrics import per_user, recall
from evaluation.order import by_given, by_user
from evaluation.significance import paired_bootstrap
from evaluation.split import split
from retrieval import tensor_file
from retrieval.candidates import Query
from retrieval.composed import QueryVectors, query_encoder
from retrieval.concatenated import SEQUENCE, ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PoolingConfig
from retrieval.popularity import popularity
from retrieval.registry import fit_sequence
from retrieval.retriever import Retriever
from retrieval.sequence_config import SequenceConfig
from retrieval.tuning import fit_weights

CACHE = Path(__file__).parents[1] / "build" / "modality_recall"
KS = (20, 100)
GRAPH_SHARE, CUT_SHARE = 0.7, 0.85  # of the events of a set without a given split
ENCODERS: Mapping[str, tuple[EncoderConfig, ...]] = {
    "lastfm": (
        EncoderConfig(modality=Modality.AUDIO, encoder="brought", name="vggish", center=True),
        EncoderConfig(modality=Modality.TEXT, encoder="brought", name="minilm"),
    ),
    "movielens": (
        EncoderConfig(modality=Modality.AUDIO, encoder="brought", name="ivector100", center=True),
        EncoderConfig(modality=Modality.IMAGE, encoder="brought", name="mobilenetv2", center=True),
        EncoderConfig(modality=Modality.TEXT, encoder="minilm"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """One set, and what may be learned from when."""

    catalog: Catalog
    interactions: pa.Table
    graph_until: datetime
    cut: datetime
    has_order: bool
    warm_up: int | None = None
    """Who had less than five events before the cut is asked after so many behind it."""

    def before(self, moment: datetime) -> pa.Table:
        """The events strictly before it."""
        return self.interactions.filter(pc.less(self.interactions["timestamp"], moment))


def world(folder: Path, *, is_user_wise: bool = False) -> World:
    """The set, on one clock: cut in time, by its own split, or by each user's last choice."""
    catalog = read(folder)
    events = catalog.interactions
    if is_user_wise or events["split"].null_count == 0:
        ordered = by_user(events, min_weight=least(events)) if is_user_wise else by_given(events)
        return World(
            catalog=catalog,
            interactions=ordered.interactions,
            graph_until=ordered.graph_until,
            cut=ordered.cut,
            has_order=ordered.has_order,
        )
    times = pc.sort_indices(events["timestamp"])
    at = [
        events["timestamp"][times[int(share * events.num_rows)].as_py()].as_py()
        for share in (GRAPH_SHARE, CUT_SHARE)
    ]
    return World(
        catalog=catalog,
        interactions=events,
        graph_until=at[0],
        cut=at[1],
        has_order=True,
        warm_up=10,  # raters come, rate in one sitting and leave
    )


def least(events: pa.Table) -> float | None:
    """The least weight of a choice, where events have one."""
    return 4.0 if events["weight"].null_count < events.num_rows else None


def content(name: str, catalog: Catalog) -> list[Embeddings]:
    """Every content modality's vectors; what a model has to compute is kept for a later run."""
    items = list(catalog.items())
    made = []
    for config in ENCODERS[name]:
        path = CACHE / f"{name}-{config.modality}-{config.name or config.encoder}.safetensors"
        embedder = create(config, catalog=catalog)
        if path.is_file():
            ids, arrays = tensor_file.read(path, names=["vectors"])
            made.append(
                Embeddings(space=embedder.space, item_ids=ids, vectors_ND=arrays["vectors"])
            )
            continue
        held = [item for item in items if embedder.fingerprint(item) is not None]
        found, _ = embedder.embed(held)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensor_file.write(path, item_ids=found.item_ids, arrays={"vectors": found.vectors_ND})
        made.append(found)
    return made


@dataclass(frozen=True, kw_only=True)
class Space:
    """All blocks of one set, and who encodes queries."""

    items: ItemVectors
    users: Embeddings
    sequence: QueryVectors | None


def space(known: World, parts: Sequence[Embeddings], *, seed: int, quick: bool) -> Space:
    """Train the graph, and where there is an order the sequence encoder, before `graph_until`."""
    catalog = known.catalog
    graph_config = GraphConfig(seed=seed, epochs=2 if quick else 20)
    graph = fit_graph(graph_config, known.interactions, known.graph_until, friends=catalog.friends)
    trained = graph.items()
    ids = sorted({item_id for part in parts for item_id in part.item_ids})
    missing = sorted(set(ids) - set(trained.item_ids))
    if missing:
        filled = impute(parts, trained, missing, k=graph_config.impute_neighbors)
        trained = Embeddings(
            space=trained.space,
            item_ids=[*trained.item_ids, *filled.item_ids],
            vectors_ND=np.concatenate([trained.vectors_ND, filled.vectors_ND]),
        )
    met = set(known.before(known.graph_until)["item_id"].to_pylist())
    blocks = [*parts, trained]
    items = concatenate(blocks, fitted_on=met)
    if not known.has_order:
        return Space(items=items, users=graph.users(), sequence=None)
    config = SequenceConfig.quick(seed=seed) if quick else SequenceConfig(seed=seed)
    encoder = fit_sequence(
        known.interactions, item_vectors=items, until=known.graph_until, config=config
    )
    bound = encoder.bound(items.content)
    items = concatenate([*blocks, encoder.items(items.content)], fitted_on=met)
    return Space(items=items, users=graph.users(), sequence=bound)


def queries(
    known: World, *, cut: datetime, until: datetime | None
) -> tuple[list[Query], tuple[Judgement, ...]]:
    """Whoever chose anything new in the window, and what they then chose."""
    judged = split(
        known.interactions,
        cut=cut,
        until=until,
        min_weight=least(known.interactions),
        min_history=1 if known.warm_up is None else 5,
        warm_up=known.warm_up,
        known_items={item.item_id for item in known.catalog.items()},
    ).judgements
    as_of = {one.user_id: one.as_of for one in judged}
    histories: dict[str, list[Interaction]] = {user_id: [] for user_id in as_of}
    columns = ("user_id", "item_id", "behavior", "timestamp")
    events = known.interactions.select(columns).sort_by([("timestamp", "ascending")])
    for row in events.to_pylist():
        if row["user_id"] in as_of and row["timestamp"] < as_of[row["user_id"]]:
            histories[row["user_id"]].append(
                Interaction(
                    item_id=row["item_id"], behavior=row["behavior"], timestamp=row["timestamp"]
                )
            )
    asked = [
        Query(user_id=one.user_id, history=tuple(histories[one.user_id]), as_of=one.as_of)
        for one in judged
    ]
    return asked, judged


def ranked(known: World, whole: Space, names: Sequence[str]) -> tuple[list[list[str]], str]:
    """The first 100 of an index of these blocks, its weights fitted before the cut."""
    items = whole.items.only(names)
    users = whole.users if Modality.GRAPH in names else None
    network = whole.sequence if SEQUENCE in names else None
    learned, chosen = queries(known, cut=known.graph_until, until=known.cut)
    pooling = fit_weights(
        learned,
        [one.item_ids for one in chosen],
        item_vectors=items,
        user_vectors=users,
        as_of=known.graph_until,
        pooling=PoolingConfig(),
        sequence=network,
    )
    encoder = query_encoder(
        items, pooling=pooling, user_vectors=users, as_of=known.graph_until, sequence=network
    )
    index = ExactIndex(dim=items.dim)
    held = np.flatnonzero(items.is_present_NM.any(axis=1))
    index.add([items.item_ids[row] for row in held], items.vectors_ND[held])
    counts = popularity(known.interactions, until=known.cut)
    retriever = Retriever(index, items, encoder, popularity=counts)
    asked, _ = queries(known, cut=known.cut, until=None)
    found = retriever.retrieve_many(asked, limit=max(KS))
    weights = ", ".join(f"{name} {weight:.2g}" for name, weight in sorted(encoder.weights.items()))
    return [[one.item_id for one in candidates] for candidates in found], weights


def systems(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Every block alone, all of them, all but one, and the graph with one other."""
    found = {name: (name,) for name in names}
    found["all"] = tuple(names)
    found |= {f"all_but_{name}": tuple(one for one in names if one != name) for name in names}
    found |= {
        f"graph_and_{name}": (Modality.GRAPH.value, name)
        for name in names
        if name != Modality.GRAPH
    }
    return found


def cold_recall(
    rankings: Sequence[Sequence[str]], judged: Sequence[Judgement], cold: frozenset[str], k: int
) -> NDArray[np.float64]:
    """Of each user who chose a cold item, how many of these are found."""
    return np.array(
        [
            recall(ranking, one.item_ids & cold, k)
            for ranking, one in zip(rankings, judged, strict=True)
            if one.item_ids & cold
        ]
    )


def measure(
    name: str, folder: Path, *, seed: int, quick: bool
) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures of one set, each with what it means."""
    known = world(folder / name)
    whole = space(known, content(name, known.catalog), seed=seed, quick=quick)
    _, judged = queries(known, cut=known.cut, until=None)
    met = set(known.before(known.cut)["item_id"].to_pylist())
    cold = frozenset({item.item_id for item in known.catalog.items()} - met)
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    values: dict[str, NDArray[np.float64]] = {}
    for system, names in systems(whole.items.names).items():
        rankings, weights = ranked(known, whole, names)
        for k in KS:
            values[f"{system}@{k}"] = per_user(rankings, judged, recall, k)
            figures[f"{name}_{system}_recall_at_{k}"] = figure([values[f"{system}@{k}"].mean()])
            meanings[f"{name}_{system}_recall_at_{k}"] = f"{len(judged)} users; {weights}"
        found = cold_recall(rankings, judged, cold, max(KS))
        if len(found):
            figures[f"{name}_{system}_cold_recall_at_100"] = figure([found.mean()])
            meanings[f"{name}_{system}_cold_recall_at_100"] = f"{len(found)} users chose cold ones"
        print(f"{name} {system}: {values[f'{system}@100'].mean():.4f} ({weights})", flush=True)
    for one in whole.items.names:
        pairs = [("all", f"all_but_{one}", f"{one}_adds_to_the_others")]
        if one != Modality.GRAPH:
            pairs.append((f"graph_and_{one}", Modality.GRAPH.value, f"{one}_adds_to_the_graph"))
        for more, less, what in pairs:
            gain = paired_bootstrap(values[f"{more}@100"], values[f"{less}@100"])
            key = f"{name}_{what}"
            figures[key] = {"median": gain.mean, "low": gain.low, "high": gain.high}
            meanings[key] = "Recall@100, mean over users; 95% paired bootstrap"
    return figures, meanings


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--sets", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="small models, to try it out")
    given = options.parse_args()
    folder = data_folder()
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for name in given.sets:
        found, said = measure(name, folder, seed=given.seed, quick=given.quick)
        figures |= found
        meanings |= said
    publish(
        "What each modality adds to retrieval",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
