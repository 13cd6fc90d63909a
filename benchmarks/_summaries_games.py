"""The set `games` in, what the template's summary adds to the titles' recall out.

The titles' and the summaries' cosines with the pooled history, and the graph's of
`games_recall`, whose models of one seed are trained here where no run before left them. Weights
are chosen on users of `valid`, by models that knew nothing of their targets; the 6,000 users of
the stored candidate lists are then asked for their last item, once.

Shape legend: N items, Q users asked for, D dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import games_recall
import numpy as np
from _figures import Figure, figure
from _games import Games, load, ranks_in, recall_at, text_vectors
from _games_signals import decayed
from numpy.typing import NDArray

from embedders.items import Item
from embedders.summaries.config import SummaryConfig
from embedders.summaries.item_summary import ItemSummarizer
from embedders.vectors import normalize
from evaluation.significance import paired_bootstrap
from retrieval.concatenated import ItemVectors, concatenate

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Blocks = Mapping[str, NDArray[np.float32]]
Weights = Mapping[str, float]

KS = (20, 100)
CHOSEN_ON = 2000  # users of `valid`
TRIED = (0.0, 0.1, 0.3, 1.0, 3.0)  # of a block beside the first one, whose weight is 1
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "summary": ("summary",),
    "text_and_summary": ("text", "summary"),
    "graph": ("graph",),
    "graph_and_text": ("graph", "text"),
    "graph_text_and_summary": ("graph", "text", "summary"),
}
GAINS = (
    ("text_and_summary", "text", "summary_adds_to_text"),
    ("graph_text_and_summary", "graph_and_text", "summary_adds_to_graph_and_text"),
    ("summary", "text", "summary_less_text"),
)


def games(folder: Path, encode: Encode) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures, each with what it means."""
    held = load(folder)
    titles = concatenate([text_vectors(held, cache=games_recall.CACHE)], item_ids=held.item_ids)
    words = {"text": titles.block("text"), "summary": _summaries(held, encode)}
    chosen = _chosen(held, titles, words)
    users = sorted(held.lists("sasrec"))
    found = _ranks(held, {**words, "graph": _graph(held, titles, "test")}, "test", users, chosen)
    return _figures(found, {name: weights for name, (weights,) in chosen.items()})


def _summaries(held: Games, encode: Encode) -> NDArray[np.float32]:
    """The template's, centered as every block of content is."""
    items = [
        Item(item_id=item_id, title=title)
        for item_id, title in zip(held.item_ids, held.titles, strict=True)
    ]
    texts = [str(one) for one in ItemSummarizer(SummaryConfig(), None).summarize(items)]
    rows = [row for row, title in enumerate(held.titles) if title]
    vectors_ND = encode([texts[row] for row in rows])
    block_ND = np.zeros((len(items), vectors_ND.shape[1]), dtype=np.float32)
    block_ND[rows] = normalize(vectors_ND - vectors_ND.mean(axis=0))
    return block_ND


def _graph(held: Games, titles: ItemVectors, split: str) -> NDArray[np.float32]:
    return games_recall.trained(held, titles, split=split, seed=0, quick=False).graph_ND


def _chosen(held: Games, titles: ItemVectors, words: Blocks) -> dict[str, tuple[Weights]]:
    """Each system's weights with the largest Recall@100 on `valid`; of equals the least."""
    blocks = {**words, "graph": _graph(held, titles, "valid")}
    users = np.random.default_rng(0).permutation(len(held.user_ids))[:CHOSEN_ON].tolist()
    tried = {name: tuple(_weightings(parts)) for name, parts in SYSTEMS.items()}
    found = _ranks(held, blocks, "valid", users, tried)
    best = {}
    for name, places in found.items():
        recalls = [float(recall_at(one, max(KS)).mean()) for one in places]
        best[name] = (tried[name][int(np.argmax(recalls))],)
        print(f"games valid {name}: {max(recalls):.4f} with {best[name][0]}", flush=True)
    return best


def _weightings(parts: Sequence[str]) -> list[Weights]:
    """All that are tried, the lightest first."""
    others = sorted(product(TRIED, repeat=len(parts) - 1), key=lambda one: (sum(one), one))
    return [dict(zip(parts, (1.0, *one), strict=True)) for one in others]


def _ranks(
    held: Games,
    blocks: Blocks,
    split: str,
    users: Sequence[int],
    tried: Mapping[str, Sequence[Weights]],
) -> dict[str, list[NDArray[np.int64]]]:
    """Where the targets stand, for each system and each of its weightings."""
    histories, targets_U = held.histories(split), held.targets(split)
    places: dict[str, list[list[NDArray[np.int64]]]] = {
        name: [[] for _ in weightings] for name, weightings in tried.items()
    }
    for start in range(0, len(users), games_recall.BLOCK):
        some = list(users[start : start + games_recall.BLOCK])
        past = [histories[user] for user in some]
        cosines = _cosines(past, blocks)
        for name, weightings in tried.items():
            for at, weights in enumerate(weightings):
                scores_QN = np.zeros_like(cosines["text"])
                for block, weight in weights.items():
                    scores_QN += np.float32(weight) * cosines[block]
                for row, history in enumerate(past):
                    scores_QN[row, history] = -np.inf
                places[name][at].append(ranks_in(scores_QN, targets_U[some]))
    return {name: [np.concatenate(one) for one in found] for name, found in places.items()}


def _cosines(
    histories: Sequence[NDArray[np.int64]], blocks: Blocks
) -> dict[str, NDArray[np.float32]]:
    """Of each block, the pooled history's with every item, [Q, N]."""
    num_items = len(next(iter(blocks.values())))
    weights_QN = decayed(histories, num_items=num_items, half_life=games_recall.HALF_LIFE)
    return {
        name: normalize(weights_QN @ vectors_ND) @ vectors_ND.T
        for name, vectors_ND in blocks.items()
    }


def _figures(
    found: Mapping[str, Sequence[NDArray[np.int64]]], weights: Mapping[str, Weights]
) -> tuple[dict[str, Figure], dict[str, str]]:
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for k in KS:
        values = {name: recall_at(places[0], k) for name, places in found.items()}
        for name, of in values.items():
            told = ", ".join(f"{block} {weight:g}" for block, weight in weights[name].items())
            figures[f"games_{name}_recall_at_{k}"] = figure([float(of.mean())])
            meanings[f"games_{name}_recall_at_{k}"] = f"{len(of)} users; {told}"
        for more, less, what in GAINS:
            gain = paired_bootstrap(values[more], values[less])
            figures[f"games_{what}_at_{k}"] = {
                "median": gain.mean,
                "low": gain.low,
                "high": gain.high,
            }
            meanings[f"games_{what}_at_{k}"] = f"Recall@{k}; 95% paired bootstrap"
    return figures, meanings
