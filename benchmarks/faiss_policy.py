"""Vectors of several sizes in, what the index that the policy chooses finds and costs out.

Vectors like embeddings: 300 topics of uneven size, each with 20 subtopics, and the spread around
them, all with a decaying spectrum of 384 dimensions, of unit length. The shares of topic (0.3),
subtopic (0.2) and spread are set so that inverted lists reach on 16,000 of them what they reach on
as many titles encoded by MiniLM (recall 0.81, 0.90, 0.96, 0.99 against 0.86, 0.92, 0.97, 0.99 when
16, 32, 64, 128 of 254 lists are read). The hard case is Gaussian: no neighborhood at all.

Queries are further draws of the same kind, never items. Latencies are CPU times of single queries
on one thread, at the least effort that reaches a recall of 0.99 of the true first hundred.
"""

import time
from argparse import ArgumentParser

import faiss
import numpy as np
import torch
from _figures import Figure, cpu_seconds, figure, parser, publish
from numpy.typing import NDArray

from retrieval.curve import DEPTH, chosen, measured
from retrieval.faiss_flat import FaissFlatIndex
from retrieval.policy import choose, memory_of
from retrieval.registry import create

DIM = 384
TOPICS, SUBTOPICS = 300, 20
SHARES = (0.3, 0.2)  # of the variance, between topics and between a topic's subtopics
DECAY = 0.8  # of the spectrum's variances, by rank
UNEVEN = 0.7  # of the topics' sizes, by rank
ROWS = 20_000  # drawn at once
TARGET = 0.99
FLOATS = np.float32

WHAT = {
    "recall": "of the true first 100, at the effort chosen",
    "p50_ms": "of single queries, half take less",
    "p99_ms": "of single queries, 99 of 100 take less",
    "vs_flat": "CPU time of a flat index's single queries / of these",
    "effort": "the least that reaches 0.99",
    "build_s": "CPU time of training and adding",
    "memory_share": "what the index holds / the raw vectors",
    "batch_vs_flat_default": "1,000 queries: FAISS's flat index at its defaults / ours",
    "batch_vs_fastest": "the faster of numpy and torch, product and selection / ours",
}


def like_embeddings(num_items: int, *, seed: int) -> NDArray[np.float32]:
    """Unit vectors around topics and subtopics."""
    random = np.random.default_rng(seed)
    world = np.random.default_rng(0)  # the same topics for items and queries
    sizes = np.arange(1, TOPICS + 1) ** -UNEVEN
    spectrum = (np.arange(1, DIM + 1) ** (-DECAY / 2)).astype(FLOATS)
    axes_DD = np.linalg.qr(world.normal(size=(DIM, DIM)))[0].astype(FLOATS)
    topics = world.standard_normal((TOPICS, DIM), dtype=FLOATS) * FLOATS(SHARES[0] ** 0.5)
    subtopics = world.standard_normal((TOPICS * SUBTOPICS, DIM), dtype=FLOATS)
    subtopics *= FLOATS(SHARES[1] ** 0.5)
    vectors_ND = np.empty((num_items, DIM), dtype=FLOATS)
    for start in range(0, num_items, ROWS):
        block_ND = vectors_ND[start : start + ROWS]
        topic_N = random.choice(TOPICS, len(block_ND), p=sizes / sizes.sum())
        subtopic_N = topic_N * SUBTOPICS + random.integers(SUBTOPICS, size=len(block_ND))
        spread_ND = random.standard_normal(block_ND.shape, dtype=FLOATS)
        spread_ND *= FLOATS((1 - sum(SHARES)) ** 0.5)
        spread_ND += topics[topic_N] + subtopics[subtopic_N]
        block_ND[:] = (spread_ND * spectrum) @ axes_DD
        block_ND /= np.linalg.norm(block_ND, axis=1, keepdims=True)
    return vectors_ND


def gaussian(num_items: int, *, seed: int) -> NDArray[np.float32]:
    """Unit vectors without any neighborhood: the curse of 384 dimensions in full."""
    vectors_ND = np.random.default_rng(seed).standard_normal((num_items, DIM), dtype=FLOATS)
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


def quality(
    vectors_ND: NDArray[np.float32],
    queries_QD: NDArray[np.float32],
    *,
    kind: str,
    rounds: int,
) -> dict[str, Figure]:
    """Recall, latency and cost of one kind of index."""
    item_ids = [f"{row:08}" for row in range(len(vectors_ND))]
    flat = create("flat", dim=DIM)
    flat.add(item_ids, vectors_ND)
    true = flat.search(queries_QD, limit=DEPTH)
    flat_ms = measured(flat, queries_QD, true, target=TARGET, clock=time.thread_time)[0].p50_ms
    del flat  # a copy of all vectors
    index = create(kind, dim=DIM)
    took_s, _ = cpu_seconds(index.add, item_ids, vectors_ND)
    points = measured(index, queries_QD, true, target=TARGET, clock=time.thread_time)
    for point in points:
        print(f"  {kind} of {len(vectors_ND):,}: {point}", flush=True)
    best = chosen(points, target=TARGET)
    index.effort, index.efforts = best.effort, (best.effort,) if best.effort else ()
    again = [
        measured(index, queries_QD, true, target=TARGET, clock=time.thread_time)[0]
        for _ in range(rounds)
    ]
    raw = memory_of("flat", num_items=len(vectors_ND), dim=DIM)
    return {
        "recall": figure([one.recall for one in again]),
        "p50_ms": figure([one.p50_ms for one in again]),
        "p99_ms": figure([one.p99_ms for one in again]),
        "vs_flat": figure([flat_ms / one.p50_ms for one in again]),
        "effort": figure([best.effort]),
        "build_s": figure([took_s]),
        "memory_share": figure([memory_of(kind, num_items=len(vectors_ND), dim=DIM) / raw]),
    }


def batches(
    vectors_ND: NDArray[np.float32], queries_QD: NDArray[np.float32], *, rounds: int
) -> dict[str, Figure]:
    """Many queries at once, in turns with FAISS, numpy and torch."""
    ours = FaissFlatIndex(dim=DIM)
    ours.add([f"{row:08}" for row in range(len(vectors_ND))], vectors_ND)
    theirs = faiss.IndexFlatIP(DIM)
    theirs.add(vectors_ND)
    shared_ND, shared_QD = torch.from_numpy(vectors_ND), torch.from_numpy(queries_QD)
    block = 250  # queries whose scores fit into memory

    def by_numpy() -> None:
        for start in range(0, len(queries_QD), block):
            scores_QN = queries_QD[start : start + block] @ vectors_ND.T
            rows_QK = np.argpartition(scores_QN, -DEPTH, axis=1)[:, -DEPTH:]
            best_QK = np.argsort(-np.take_along_axis(scores_QN, rows_QK, axis=1), axis=1)
            np.take_along_axis(rows_QK, best_QK, axis=1)

    def by_torch() -> None:
        for start in range(0, len(queries_QD), block):
            torch.topk(shared_QD[start : start + block] @ shared_ND.T, DEPTH)

    ratios, fastest = [], []
    for _ in range(rounds):
        our_s, _ = cpu_seconds(lambda: ours.search(queries_QD, limit=DEPTH))
        default_s, _ = cpu_seconds(theirs.search, queries_QD, DEPTH)
        plain_s = min(cpu_seconds(by_numpy)[0], cpu_seconds(by_torch)[0])
        ratios.append(default_s / our_s)
        fastest.append(plain_s / our_s)
    return {"batch_vs_flat_default": figure(ratios), "batch_vs_fastest": figure(fastest)}


def main(options: ArgumentParser) -> None:
    """Measure the sizes asked for."""
    options.set_defaults(rounds=3)
    options.add_argument("--items", type=int, nargs="*", default=[100_000], metavar="N")
    options.add_argument("--kind", help="instead of the one that the policy chooses")
    options.add_argument("--queries", type=int, default=100)
    options.add_argument("--hard", action="store_true", help="Gaussian vectors")
    options.add_argument("--batch", type=int, default=100_000, help="items; 0 leaves it out")
    asked = options.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    draw = gaussian if asked.hard else like_embeddings
    figures: dict[str, Figure] = {}
    if asked.batch:
        figures |= batches(draw(asked.batch, seed=1), draw(1000, seed=2), rounds=asked.rounds)
    for num_items in asked.items:
        kind = asked.kind or choose(num_items, DIM).kind
        found = quality(
            draw(num_items, seed=1), draw(asked.queries, seed=2), kind=kind, rounds=asked.rounds
        )
        size = f"{num_items // 1000}k" if num_items < 1_000_000 else f"{num_items // 1_000_000}m"
        figures |= {f"{name}_{size}": one for name, one in found.items()}
    publish(
        f"{'Gaussian' if asked.hard else 'clustered'} vectors of {DIM} dimensions",
        figures,
        {name: WHAT.get(name, WHAT.get(name.rpartition("_")[0], "")) for name in figures},
        file=asked.json,
        packages=["faiss-cpu", "numpy", "torch"],
    )


if __name__ == "__main__":
    main(parser("What the index chosen by the policy finds and costs."))
