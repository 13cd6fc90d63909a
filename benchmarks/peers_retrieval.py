"""Other libraries and ours on the same splits in one run, quality and CPU time of training out.

    pip install implicit==0.7.3 cornac==3.0.1

`lastfm-ids`, interactions alone, the protocol of `graph_tables`: ALS and BPR of implicit, as they
stand but for 64 factors, which its documentation's examples use, beside our graph encoders.
`movielens`, each user's last film rated 4 or more: ALS, BPR, and of Cornac SASRec (as it stands:
100 dimensions, 10 epochs) and VBPR (10 + 10 factors, 50 epochs, as it stands) on the same vectors
of posters, beside our graph, our sequence encoder and the concatenated index. The
peers learn from everything before the cut; ours leave its last part to the fit of the weights.

Every side ranks all items but those that the user has met, and is measured by our metrics. Cornac's
LightGCN asks for dgl with an old torch, so that LightGCN stands in `graph_tables` as published.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import graph_tables
import modality_recall
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from _figures import Figure, data_folder, figure, parser, publish
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from embedders.items import Modality
from embedders.vectors import Embeddings
from evaluation.judgements import Judgement
from evaluation.metrics import ndcg, per_user, recall
from retrieval.concatenated import SEQUENCE

try:
    import cornac
    from cornac.data import Dataset, ImageModality, SequentialDataset
    from cornac.models import VBPR, SASRec
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
except ModuleNotFoundError as error:
    sys.exit(f"no {error.name}: pip install implicit==0.7.3 cornac==3.0.1")

K = 20
FACTORS = 64
Scores = Callable[[str], NDArray[np.float32] | None]
"""User id -> a score of every known item; None for a user of whom nothing is known."""


class Known:
    """Who met what, by rows."""

    def __init__(self, users: Sequence[str], items: Sequence[str]) -> None:
        """From the events in their order; an item met twice is one."""
        self.user_ids, self.item_ids = sorted(set(users)), sorted(set(items))
        self.row_of = {one: row for row, one in enumerate(self.user_ids)}
        self.column_of = {one: column for column, one in enumerate(self.item_ids)}
        self.events = [
            (self.row_of[user], self.column_of[item])
            for user, item in zip(users, items, strict=True)
        ]
        rows, columns = np.array(self.events).T
        shape = (len(self.user_ids), len(self.item_ids))
        self.matrix_UI = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        self.matrix_UI.data[:] = 1

    def ranked(self, user: str, scores_I: NDArray[np.float32], limit: int) -> list[str]:
        """The best that the user has not met, ties by item id."""
        scores_I = scores_I.copy()
        scores_I[self.matrix_UI[self.row_of[user]].indices] = -np.inf
        best = np.argsort(-scores_I, kind="stable")[:limit]
        return [self.item_ids[one] for one in best if np.isfinite(scores_I[one])]


def implicit_peers(known: Known, seed: int) -> Iterator[tuple[str, float, Scores]]:
    """Name, CPU seconds and scores."""
    for name, kind in (
        ("implicit_als", AlternatingLeastSquares),
        ("implicit_bpr", BayesianPersonalizedRanking),
    ):
        model = kind(factors=FACTORS, random_state=seed, num_threads=1)
        began = time.process_time()
        model.fit(known.matrix_UI, show_progress=False)
        spent = time.process_time() - began
        users_UD, items_ID = np.asarray(model.user_factors), np.asarray(model.item_factors)
        yield name, spent, _products(known, users_UD, items_ID)


def _products(known: Known, users_UD: NDArray[np.float32], items_ID: NDArray[np.float32]) -> Scores:
    def scores(user: str) -> NDArray[np.float32] | None:
        row = known.row_of.get(user)
        found: NDArray[np.float32] | None = None if row is None else items_ID @ users_UD[row]
        return found

    return scores


def sasrec(known: Known, seed: int, epochs: int) -> tuple[float, Scores]:
    """Cornac's, a user's events in their order as one session."""
    rows = [
        (str(user), str(user), str(item), place) for place, (user, item) in enumerate(known.events)
    ]
    data = SequentialDataset.from_usit(rows, seed=seed)
    model = SASRec(n_epochs=epochs, seed=seed)
    began = time.process_time()
    model.fit(data)
    spent = time.process_time() - began
    place_of = [data.iid_map[str(column)] for column in range(len(known.item_ids))]
    histories: dict[int, list[int]] = {}
    for user, item in known.events:
        histories.setdefault(user, []).append(data.iid_map[str(item)])

    def scores(user: str) -> NDArray[np.float32] | None:
        row = known.row_of.get(user)
        if row is None:
            return None
        found = model.score(data.uid_map.get(str(row), 0), histories[row])
        return np.asarray(found, dtype=np.float32).ravel()[place_of]

    return spent, scores


def vbpr(known: Known, pictures: Embeddings, seed: int) -> tuple[float, Scores]:
    """Cornac's, with the same vectors of posters; zeros where an item has none."""
    data = Dataset.from_uir([(str(user), str(item), 1.0) for user, item in known.events], seed=seed)
    features_ND = np.zeros((len(known.item_ids), pictures.space.dim), dtype=np.float32)
    for item_id, vector_D in zip(pictures.item_ids, pictures.vectors_ND, strict=True):
        if item_id in known.column_of:
            features_ND[known.column_of[item_id]] = vector_D
    ids = [str(column) for column in range(len(known.item_ids))]
    modality = ImageModality(features=features_ND, ids=ids, normalized=False)
    data.add_modalities(item_image=modality.build(id_map=data.iid_map))
    model = VBPR(seed=seed, verbose=False)
    began = time.process_time()
    model.fit(data)
    spent = time.process_time() - began
    place_of = [data.iid_map[one] for one in ids]

    def scores(user: str) -> NDArray[np.float32] | None:
        row = known.row_of.get(user)
        if row is None:
            return None
        found = np.asarray(model.score(data.uid_map[str(row)]), dtype=np.float32)
        return found[place_of]

    return spent, scores


Row = tuple[str, float, float, float]
"""Name, NDCG@20, Recall@20, CPU seconds to train."""


def lastfm(folder: Path, seed: int, quick: bool, _: Sequence[int]) -> Iterator[Row]:
    """Interactions alone, by the protocol of the graph tables."""
    path = folder / "lastfm-ids" / "interactions.parquet"
    train = pq.read_table(path, filters=pc.field("split") == "train")
    known = Known(train["user_id"].to_pylist(), train["item_id"].to_pylist())
    wanted = graph_tables.pairs(path, "test")
    for name, spent, scores in implicit_peers(known, seed):
        values = []
        for user, relevant in wanted.items():
            scores_I = scores(user)
            ranked = [] if scores_I is None else known.ranked(user, scores_I, K)
            values.append((ndcg(ranked, set(relevant), K), recall(ranked, set(relevant), K)))
        ndcg20, recall20 = np.mean(values, axis=0).tolist()
        yield name, ndcg20, recall20, spent
    for name in graph_tables.CONFIGS["lastfm-ids"]:
        config = replace(graph_tables.CONFIGS["lastfm-ids"][name], seed=seed)
        if quick:
            config = replace(config, epochs=1)
        began = time.process_time()
        embedder = graph_tables.trained(path, name, config)
        spent = time.process_time() - began
        ndcg20, recall20 = graph_tables.measured(embedder, path, "test")
        yield f"our_{name}", ndcg20, recall20, spent


def movielens(folder: Path, seed: int, quick: bool, sasrec_epochs: Sequence[int]) -> Iterator[Row]:
    """Sequences and pictures; each user's last film that they rated 4 or more is to be found."""
    world = modality_recall.world(folder / "movielens", is_user_wise=True)
    parts = modality_recall.content("movielens", world.catalog)
    _, judged = modality_recall.queries(world, cut=world.cut, until=None)
    events = world.before(world.cut).sort_by([("timestamp", "ascending"), ("item_id", "ascending")])
    known = Known(events["user_id"].to_pylist(), events["item_id"].to_pylist())
    for name, spent, scores in implicit_peers(known, seed):
        yield _row(name, spent, [_ranked(known, scores, one) for one in judged], judged)
    for epochs in sasrec_epochs:
        spent, scores = sasrec(known, seed, epochs)
        rankings = [_ranked(known, scores, one) for one in judged]
        yield _row(f"cornac_sasrec_{epochs}_epochs", spent, rankings, judged)
    pictures = next(one for one in parts if one.space.modality is Modality.IMAGE)
    spent, scores = vbpr(known, pictures, seed)
    yield _row("cornac_vbpr", spent, [_ranked(known, scores, one) for one in judged], judged)
    began = time.process_time()
    whole = modality_recall.space(world, parts, seed=seed, quick=quick)
    spent = time.process_time() - began  # of the graph and the sequence encoder together
    for name, blocks in (
        ("our_graph", (Modality.GRAPH.value,)),
        ("our_sequence", (SEQUENCE,)),
        ("our_index", whole.items.names),
    ):
        rankings, _ = modality_recall.ranked(world, whole, blocks)
        yield _row(name, spent, rankings, judged)


def _ranked(known: Known, scores: Scores, one: Judgement) -> list[str]:
    scores_I = scores(one.user_id)
    return [] if scores_I is None else known.ranked(one.user_id, scores_I, K)


def _row(
    name: str, spent: float, rankings: Sequence[Sequence[str]], judged: Sequence[Judgement]
) -> Row:
    values = [float(per_user(rankings, judged, metric, K).mean()) for metric in (ndcg, recall)]
    return name, values[0], values[1], spent


SETS: Mapping[str, Callable[[Path, int, bool, Sequence[int]], Iterator[Row]]] = {
    "lastfm-ids": lastfm,
    "movielens": movielens,
}


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(rounds=1)
    options.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    options.add_argument("--quick", action="store_true", help="small models, to try it out")
    options.add_argument(
        "--sasrec-epochs",
        type=int,
        nargs="*",
        default=[10],
        help="of Cornac's, two minutes each on one core; none leaves it out",
    )
    given = options.parse_args()
    folder = data_folder()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for name in given.sets:
        for seed in range(given.rounds):
            for row in SETS[name](folder, seed, given.quick, given.sasrec_epochs):
                print(name, f"seed {seed}", *(f"{one:.4g}" for one in row[1:]), row[0], flush=True)
                for what, value in zip(("ndcg20", "recall20", "cpu_s"), row[1:], strict=True):
                    found.setdefault(f"{name}_{row[0]}_{what}", []).append(value)
    figures: dict[str, Figure] = {name: figure(values) for name, values in found.items()}
    said: dict[str, Any] = {"ndcg20": "NDCG@20", "recall20": "Recall@20", "cpu_s": "to train"}
    publish(
        f"Beside implicit and Cornac {cornac.__version__}, seeds as rounds",
        figures,
        {name: said[next(what for what in said if name.endswith(what))] for name in figures},
        file=given.json,
        packages=("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
