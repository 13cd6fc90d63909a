"""The set `games` in, Recall@100 and NDCG@10 of our retrieval beside seven stored routes out.

The catalog of 16,859 items is ranked in full for the 6,000 users of the stored candidate lists;
the target is the user's last item, and every item of the user's history is removed, from the
stored lists as from ours. Ours is one log-linear fusion of lists: the sequence encoder (ids and
titles), the titles' and the graph's cosines with the pooled history, and the co-occurrence of
items. A round is a seed, of everything that is trained.

Whatever is chosen was chosen on `valid`: models trained on `train` alone were measured there, and
so were fitted the weights in `WEIGHTS` (`--choose` prints them anew, from the first seed's models).
Then the models are trained again on train and valid with what was chosen. The test targets are
looked at by this script alone, at its end. Two rows of a published table stand beside it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _figures import Figure, cpu_seconds, data_folder, figure, parser, publish
from _games import (
    ROUTES,
    Games,
    load,
    ndcg_at,
    ranks_in,
    ranks_of,
    recall_at,
    text_vectors,
)
from _games_published import DEPTHS, PUBLISHED, published
from _games_signals import Neighbors, decayed
from numpy.typing import NDArray

from embedders.graph_config import GraphConfig
from embedders.graph_lightgcn import fit as fit_graph
from embedders.items import Interaction
from embedders.vectors import normalize
from evaluation.significance import paired_bootstrap
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.sequence import SequenceEncoder
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_training import fit as fit_sequence
from retrieval.tensor_file import read, write

CACHE = Path(__file__).parents[1] / "build" / "games_recall"
SEQUENCE = SequenceConfig(
    dim=128,
    widening=1,
    learning_rate=2e-3,
    epochs=12,
    dropout=0.4,
    input_dropout=0.4,
    id_dropout=0.3,
)
GRAPH = GraphConfig(dim=128, batch_size=32768, epochs=16, num_negatives=4096, temperature=0.12)
WEIGHTS: Mapping[str, float] = {
    "sequence": 9.901,
    "text": 1.248,
    "graph": 1.389,
    "near": 0.021,
    "next": 0.105,
    "near the near": 0.293,
}
"""Of the lists in the score; cosines, and logarithms of co-occurrence."""
HALF_LIFE = 1.5  # of the pooled history, in events
BLOCK = 250  # users whose scores of all items are held at once
FITTED, CHECKED = 1000, 3000  # users of `valid` on whom weights are fitted, and others


@dataclass(frozen=True, kw_only=True)
class Models:
    """What one seed trained on what came before the targets of one split."""

    sequence: SequenceEncoder
    graph_ND: NDArray[np.float32]
    neighbors: Neighbors


def trained(games: Games, items: ItemVectors, *, split: str, seed: int, quick: bool) -> Models:
    """Everything that is trained, or what a run before this one left of it."""
    known = games.known(split)
    config = replace(SEQUENCE, seed=seed)
    graph_config = replace(GRAPH, seed=seed)
    if quick:
        config = replace(config, dim=32, num_layers=1, epochs=2)
        graph_config = replace(graph_config, dim=16, epochs=2)
    name = hashlib.sha256(repr((split, config, items.spaces)).encode()).hexdigest()[:12]

    def told(epoch: int, epochs: int, loss: float) -> None:
        print(f"{split} seed {seed}: epoch {epoch} of {epochs}, loss {loss:.3f}", flush=True)

    sequence = fit_sequence(
        known,
        item_vectors=items,
        until=None,
        config=config,
        on_progress=told,
        checkpoint=CACHE / f"sequence-{name}.safetensors",
    )
    histories = games.histories(split)
    return Models(
        sequence=sequence,
        graph_ND=_graph(games, split, graph_config),
        neighbors=Neighbors(histories, num_items=len(games.item_ids)),
    )


def _graph(games: Games, split: str, config: GraphConfig) -> NDArray[np.float32]:
    """Every item's vector of the graph, zeros for items without an edge, kept for a later run."""
    path = (
        CACHE
        / f"graph-{hashlib.sha256(repr((split, config)).encode()).hexdigest()[:12]}.safetensors"
    )
    if not path.is_file():
        found = fit_graph(games.known(split), until=None, config=config).items()
        write(path, item_ids=found.item_ids, arrays={"vectors": found.vectors_ND})
    item_ids, arrays = read(path, names=["vectors"])
    row_of = {item_id: row for row, item_id in enumerate(games.item_ids)}
    vectors_ND = np.zeros((len(games.item_ids), config.dim), dtype=np.float32)
    vectors_ND[[row_of[one] for one in item_ids]] = arrays["vectors"]
    return vectors_ND


class Scorer:
    """One seed's models, ready to score every item for any history."""

    def __init__(self, games: Games, items: ItemVectors, models: Models) -> None:
        self._ids, self._titles_ND, self._models = games.item_ids, items.block("text"), models
        embedded = models.sequence.items(items)
        assert tuple(embedded.item_ids) == games.item_ids
        self._sequence_ND = embedded.vectors_ND
        self._bound = models.sequence.bound(items)

    def signals(self, histories: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        """What each list says of every item, [Q, N] each."""
        queries = [
            Query(
                history=tuple(
                    Interaction(item_id=self._ids[row], behavior="review") for row in history
                )
            )
            for history in histories
        ]
        weights_QN = decayed(histories, num_items=len(self._ids), half_life=HALF_LIFE)
        cosines = {
            name: normalize(weights_QN @ vectors_ND) @ vectors_ND.T
            for name, vectors_ND in (("text", self._titles_ND), ("graph", self._models.graph_ND))
        }
        return {
            "sequence": self._bound.encode_many(queries) @ self._sequence_ND.T,
            **cosines,
            **self._models.neighbors.logits(histories),
        }


def fused(
    signals: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """The weighted sum of the lists' scores, [Q, N]."""
    total = np.zeros_like(signals["sequence"])
    for name, weight in weights.items():
        total += np.float32(weight) * signals[name]
    return total


def ranks(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int64]],
    targets_Q: NDArray[np.int64],
    systems: Mapping[str, Mapping[str, float]],
) -> dict[str, NDArray[np.int64]]:
    """For each system, given as weights of lists, where the targets stand."""
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in systems}
    for block in _blocks(len(histories)):
        signals = scorer.signals(histories[block])
        for name, weights in systems.items():
            scores_QN = fused(signals, weights)
            for row, history in enumerate(histories[block]):
                scores_QN[row, history] = -np.inf
            found[name].append(ranks_in(scores_QN, targets_Q[block]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def fitted(
    scorer: Scorer, histories: Sequence[NDArray[np.int64]], targets_Q: NDArray[np.int64]
) -> dict[str, float]:
    """The weights under which the targets are likeliest, as a softmax over all items."""
    blocks = []
    for block in _blocks(len(histories)):
        signals = scorer.signals(histories[block])
        names = list(signals)
        stacked = torch.from_numpy(np.stack([signals[name] for name in names], axis=-1))
        for row, history in enumerate(histories[block]):
            stacked[row, history, 0] = -1e4  # history items are no choice
        blocks.append((stacked, torch.from_numpy(targets_Q[block])))
    weights = torch.zeros(len(names))
    weights[0] = 10.0
    weights.requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=25, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        for stacked, targets in blocks:
            losses = torch.nn.functional.cross_entropy(stacked @ weights, targets, reduction="sum")
            torch.autograd.backward(losses / len(histories))
            total += losses.detach() / len(histories)
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return {name: round(value, 3) for name, value in zip(names, weights.tolist(), strict=True)}


def choose(games: Games, items: ItemVectors, *, quick: bool) -> dict[str, float]:
    """Fit the weights on users of `valid`, and say how the lists do on others."""
    models = trained(games, items, split="valid", seed=0, quick=quick)
    scorer = Scorer(games, items, models)
    histories, targets_U = games.histories("valid"), games.targets("valid")
    users = np.random.default_rng(0).permutation(len(histories))[: FITTED + CHECKED]
    some, others = users[:FITTED], users[FITTED:]
    weights = fitted(scorer, [histories[user] for user in some], targets_U[some])
    systems = {"fused": weights, **{name: {name: 1.0} for name in weights}}
    found = ranks(scorer, [histories[user] for user in others], targets_U[others], systems)
    for name, places in found.items():
        print(f"valid, {name}: {_told(places)}", flush=True)
    print(f"weights: {weights}", flush=True)
    return weights


def routes(games: Games) -> tuple[list[int], dict[str, dict[str, NDArray[np.int64]]]]:
    """The users asked for, and where the target stands in each route's list, as it is stored and
    without the history."""
    lists = {route: games.lists(route) for route in ROUTES}
    users = sorted(lists["sasrec"])
    histories, targets_U = games.histories("test"), games.targets("test")
    hidden = [histories[user] for user in users]
    return users, {
        route: {
            "raw": ranks_of([of[user] for user in users], targets_U[users]),
            "removed": ranks_of([of[user] for user in users], targets_U[users], hidden=hidden),
        }
        for route, of in lists.items()
    }


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(count, start + BLOCK))


def _told(places: NDArray[np.int64]) -> str:
    return (
        f"Recall@100 {recall_at(places, 100).mean():.4f}, NDCG@10 {ndcg_at(places, 10).mean():.4f}"
    )


def measure(
    games: Games, items: ItemVectors, weights: Mapping[str, float], *, seeds: int, quick: bool
) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures, each with what it means."""
    users, stored = routes(games)
    all_histories, targets_U = games.histories("test"), games.targets("test")
    histories, targets_Q = [all_histories[user] for user in users], targets_U[users]
    blocks = {name: weights[name] for name in ("sequence", "text", "graph")}
    alone = {f"{name}_": {name: 1.0} for name in ("sequence", "graph")}
    systems = {"": weights, "blocks_": blocks, **alone}
    by_seed: dict[str, list[NDArray[np.int64]]] = {name: [] for name in systems}
    seconds = []
    for seed in range(seeds):
        spent, models = cpu_seconds(_trained, games, items, seed, quick)
        seconds.append(spent)
        found = ranks(Scorer(games, items, models), histories, targets_Q, systems)
        for name, places in found.items():
            by_seed[name].append(places)
            print(f"seed {seed}, {name or 'fused'}: {_told(places)}", flush=True)
    figures = {"train_cpu_seconds": figure(seconds)}
    meanings = {"train_cpu_seconds": "to train a seed; near 0 where a run before left its models"}
    said = {"": "ours", "blocks_": "sequence, text and graph", **{name: "alone" for name in alone}}
    for name, rounds in by_seed.items():
        for what, of in (("recall_at_100", _recall), ("ndcg_at_10", _ndcg)):
            figures[f"{name}{what}"] = figure([float(of(places).mean()) for places in rounds])
            meanings[f"{name}{what}"] = said[name]
    for what, of in (("recall_at_100", _recall), ("ndcg_at_10", _ndcg)):
        theirs_Q = of(stored["sasrec"]["removed"])
        ours_Q = np.mean([of(places) for places in by_seed[""]], axis=0)
        gain = paired_bootstrap(ours_Q, theirs_Q)
        figures[f"{what}_over_sasrec"] = {"median": gain.mean, "low": gain.low, "high": gain.high}
        meanings[f"{what}_over_sasrec"] = "mean over seeds - SASRec; 95% paired bootstrap, users"
        for route, places in stored.items():
            figures[f"{route}_{what}"] = figure([float(of(places["removed"]).mean())])
            meanings[f"{route}_{what}"] = "stored list, history removed"
            figures[f"{route}_raw_{what}"] = figure([float(of(places["raw"]).mean())])
            meanings[f"{route}_raw_{what}"] = "stored list as it is"
    drawn = [published(games, seed=seed) for seed in range(seeds)]
    for name, row in PUBLISHED.items():
        for depth, value in zip(DEPTHS, row, strict=True):
            key = f"{name.lower()}_of_20_ndcg_at_{depth}"
            figures[key] = figure([100 * float(ndcg_at(d[name], depth).mean()) for d in drawn])
            meanings[key] = f"200 users, 20 candidates, x 100; published {value}"
    return figures, meanings


def _trained(games: Games, items: ItemVectors, seed: int, quick: bool) -> Models:
    return trained(games, items, split="test", seed=seed, quick=quick)


def _recall(places: NDArray[np.int64]) -> NDArray[np.float64]:
    return recall_at(places, 100)


def _ndcg(places: NDArray[np.int64]) -> NDArray[np.float64]:
    return ndcg_at(places, 10)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--seeds", type=int, default=3, help="how many are trained, from 0")
    options.add_argument("--quick", action="store_true", help="small models, to try it out")
    options.add_argument("--choose", action="store_true", help="fit the weights on valid, and stop")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    folder = data_folder("games")
    torch.set_num_threads(given.threads)
    games = load(folder)
    items = concatenate([text_vectors(games, cache=CACHE)], item_ids=games.item_ids)
    if given.choose:
        choose(games, items, quick=given.quick)
        return
    figures, meanings = measure(games, items, WEIGHTS, seeds=given.seeds, quick=given.quick)
    publish(
        "Full ranking of the catalog, seeds as rounds",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "torch-geometric", "numpy", "scipy"),
    )


if __name__ == "__main__":
    main()
