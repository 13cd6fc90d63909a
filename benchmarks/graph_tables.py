"""Two public splits in, our graph encoders' NDCG@20 and Recall@20 beside published ones out.

Splits and protocol are those of LightGCN++ (Lee et al., RecSys 2024, with its code): trained on
`train` alone; for each user every item is ranked but those of the user's `train`, items of `valid`
included; hits are binary, the ideal ranking holds min(20, number of test items) of them, and the
mean is over the users who have test items. Items that never occur in `train` have no vector: they
cannot be found, and count in the ideal. The configurations were chosen on `valid`, and so is the
number of epochs, which is fixed: nothing looks at `test` but the measurement.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from _figures import Figure, cpu_seconds, data_folder, figure, parser, publish

from embedders.graph_config import GraphConfig
from embedders.graph_embedder import GraphEmbedder
from embedders.registry import fit_graph
from evaluation.metrics import ndcg, recall

K = 20
LASTFM = GraphConfig(
    dim=65,  # 64 are trained, as in the published rows; one carries the items' lengths
    compare="dot",
    loss="softmax",
    num_negatives=4096,
    temperature=1.0,
    degree_exponents=(0.6, -0.1),
    scale_layers=True,
    own_share=0.2,
    batch_size=8192,
    learning_rate=0.01,
    epochs=40,
    spectral_dim=257,
    spectral_exponents=(0.25, 0.3),
    spectral_ridge=0.3,
    spectral_popularity=0.15,
)
ML1M = GraphConfig(
    loss="softmax",
    num_negatives=4096,  # more than there are: the full softmax
    temperature=0.2,
    batch_size=65536,
    epochs=20,
    spectral_dim=65,
    spectral_exponents=(0.5, 0.3),
)
CONFIGS: Mapping[str, Mapping[str, GraphConfig]] = {
    "lastfm-ids": {
        "lightgcn": LASTFM,
        "spectral": LASTFM,
        "joined": replace(LASTFM, dim=129, spectral_share=0.4),
    },
    "ml1m-ids": {
        "lightgcn": ML1M,
        "spectral": replace(ML1M, spectral_ridge=0.1, spectral_popularity=0.0),
        "joined": replace(ML1M, spectral_ridge=0.03, spectral_popularity=0.3, spectral_share=0.8),
    },
}
ENCODERS = ("lightgcn", "spectral", "joined")
"""joined is the encoder lightgcn with a share of spectral vectors beside its own."""
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "lastfm-ids": {"LightGCN": 0.2427, "LightGCN++": 0.2624},
    "ml1m-ids": {"LightGCN": 0.3010, "LightGCN++": 0.3275},
}
"""NDCG@20, as the paper of LightGCN++ and its supplement report them for these splits."""

WHAT: Mapping[str, str] = {
    "ndcg_at_20": "NDCG@20 of the encoder",
    "recall_at_20": "Recall@20 of the encoder",
    "cpu_seconds": "of one core, to train",
}
BEST = "joined"  # on `valid`, of both sets

Pairs = dict[str, list[str]]


def pairs(path: Path, split: str) -> Pairs:
    """User -> the items of one split."""
    table = pq.read_table(path, filters=pc.field("split") == split)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for user, item in zip(*(table[one].to_pylist() for one in ("user_id", "item_id")), strict=True):
        found[user].append(item)
    return found


def trained(path: Path, encoder: str, config: GraphConfig) -> GraphEmbedder:
    """The encoder after training on `train`."""
    return fit_graph(
        config,
        pq.read_table(path, filters=pc.field("split") == "train"),
        None,
        encoder="spectral" if encoder == "spectral" else "lightgcn",
    )


def measured(embedder: GraphEmbedder, path: Path, split: str) -> tuple[float, float]:
    """NDCG@20 and Recall@20, means over the users with items in the split."""
    known, wanted = pairs(path, "train"), pairs(path, split)
    users, items = embedder.users(), embedder.items()
    row_of = {user: row for row, user in enumerate(users.item_ids)}
    place_of = {item: place for place, item in enumerate(items.item_ids)}
    ids = np.array(items.item_ids)
    ndcgs, recalls = [], []
    for user, relevant in wanted.items():
        ranked: list[str] = []
        if user in row_of:  # else nothing is known of them, and nothing is found
            scores_I = items.vectors_ND @ users.vectors_ND[row_of[user]]
            scores_I[[place_of[item] for item in known[user]]] = -np.inf
            best = np.argpartition(-scores_I, K)[: K + 1]
            ranked = ids[best[np.lexsort((best, -scores_I[best]))]][:K].tolist()
        ndcgs.append(ndcg(ranked, set(relevant), K))
        recalls.append(recall(ranked, set(relevant), K))
    return float(np.mean(ndcgs)), float(np.mean(recalls))


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(rounds=2)
    options.add_argument("--sets", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    options.add_argument("--split", choices=("valid", "test"), default="test")
    options.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    options.add_argument("--epochs", type=int, help="fewer, to try the script out")
    given = options.parse_args()
    folder = data_folder()
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for name in given.sets:
        path = folder / name / "interactions.parquet"
        short = name.split("-")[0]
        for encoder, base in CONFIGS[name].items():
            if encoder not in given.encoders:
                continue
            found = []
            for seed in range(1 if encoder == "spectral" else given.rounds):  # no chance in it
                config = replace(base, seed=seed)
                if given.epochs is not None:
                    config = replace(config, epochs=given.epochs)
                seconds, embedder = cpu_seconds(trained, path, encoder, config)
                found.append((*measured(embedder, path, given.split), seconds))
                said = f"NDCG@20 {found[-1][0]:.4f}, {seconds:.0f} CPU seconds"
                print(f"{name} {encoder} seed {seed}: {said}", flush=True)
            for place, (what, meaning) in enumerate(WHAT.items()):
                figures[f"{short}_{encoder}_{what}"] = figure([one[place] for one in found])
                meanings[f"{short}_{encoder}_{what}"] = meaning
        if BEST in given.encoders:
            figures[f"{short}_ndcg_at_20"] = figures[f"{short}_{BEST}_ndcg_at_20"]
            meanings[f"{short}_ndcg_at_20"] = f"of the best on valid: {BEST}"
        for method, value in PUBLISHED[name].items():
            figures[f"{short}_{method}"] = figure([value])
            meanings[f"{short}_{method}"] = "NDCG@20 as published, on test"
    publish(
        f"Graph encoders on {given.split}, seeds as rounds",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "torch-geometric"),
    )


if __name__ == "__main__":
    main()
