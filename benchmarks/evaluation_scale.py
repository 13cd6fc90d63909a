"""All users of `games` in, how fast retrieval is evaluated on them and in how much memory out.

50,546 users are asked for the first 100 of 16,859 items, in batches that are kept on disk, and the
whole report is made: every measure, slice and interval, exact ranks of all right answers, the
ledger, the page. Nothing is reranked. Vectors of 64 and 384 dimensions stand for graph and text:
a truncated SVD of who had what, and titles as sums of random words, so that no model has to run.

A part of the users goes first, so that growth shows: peak memory of all users over that of a
tenth. Each size runs in a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import overload

import numpy as np
import scipy.sparse as sp
from _figures import figure, parser, publish
from _games import Games, load
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from embedders.items import EPOCH, Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from evaluation import run_files
from evaluation.evaluate import evaluate
from evaluation.findings import Background
from evaluation.journal import Journal
from evaluation.judgements import Judgement
from evaluation.ledger import Holdings
from evaluation.protocol import EvaluationConfig
from evaluation.slices import parts
from evaluation.write import write
from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.registry import create
from retrieval.retriever import Retriever

GRAPH_DIM, TEXT_DIM = 64, 384
DATA = Path(os.environ.get("SOMMELIER_SHARED_DATA", "../shared/data")) / "games"


class GameQueries(Sequence[Query]):
    """Each user's history as a query, made when it is asked for."""

    def __init__(self, games: Games, users: NDArray[np.int64]) -> None:
        self._games = games
        self._users = users
        self._histories = games.histories("test")

    def __len__(self) -> int:
        return len(self._users)

    @overload
    def __getitem__(self, place: int) -> Query: ...
    @overload
    def __getitem__(self, place: slice) -> list[Query]: ...
    def __getitem__(self, place: int | slice) -> Query | list[Query]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        user = int(self._users[place])
        rows = self._histories[user].tolist()
        return Query(
            user_id=self._games.user_ids[user],
            history=tuple(
                Interaction(item_id=self._games.item_ids[row], behavior="review", position=n)
                for n, row in enumerate(rows)
            ),
        )


def item_vectors(games: Games) -> ItemVectors:
    """Two blocks, made in seconds."""
    return concatenate([_graph(games), _text(games)], item_ids=games.item_ids)


def _graph(games: Games) -> Embeddings:
    histories = games.histories("test")
    users = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    items = np.concatenate(histories)
    shape = (len(histories), len(games.item_ids))
    met_UN = sp.csr_matrix((np.ones(len(items), dtype=np.float32), (users, items)), shape=shape)
    popular_N = np.asarray(met_UN.sum(axis=0)).ravel()
    scaled_UN = met_UN @ sp.diags((1 / np.sqrt(np.maximum(popular_N, 1))).astype(np.float32))
    _, _, vectors_DN = svds(scaled_UN, k=GRAPH_DIM, random_state=0)
    return _embeddings(games, Modality.GRAPH, np.ascontiguousarray(vectors_DN.T))


def _text(games: Games) -> Embeddings:
    rng = np.random.default_rng(0)
    random: dict[str, NDArray[np.float32]] = {}
    rows = []
    for title in games.titles:
        words = title.lower().split() or [""]
        for word in words:
            if word not in random:
                random[word] = rng.standard_normal(TEXT_DIM, dtype=np.float32)
        rows.append(np.sum([random[word] for word in words], axis=0))
    return _embeddings(games, Modality.TEXT, np.stack(rows))


def _embeddings(games: Games, modality: Modality, vectors_ND: NDArray[np.float32]) -> Embeddings:
    """Without those that have no direction, as an item that nobody had has none in the graph."""
    space = Space(modality=modality, encoder="benchmark", revision="1", dim=vectors_ND.shape[1])
    rows = np.flatnonzero(np.linalg.norm(vectors_ND, axis=1) > 1e-6)
    return Embeddings(
        space=space,
        item_ids=[games.item_ids[row] for row in rows.tolist()],
        vectors_ND=normalize(vectors_ND[rows].astype(np.float32)),
    )


def measure(num_users: int, folder: Path) -> dict[str, float]:
    """Evaluate so many users, and leave the report in a folder."""
    games = load(DATA)
    items = item_vectors(games)
    index = create("flat", dim=items.dim)
    index.add(items.item_ids, items.vectors_ND)
    histories = games.histories("test")
    fans_N = np.bincount(np.concatenate(histories), minlength=len(games.item_ids))
    order = np.lexsort((np.arange(len(fans_N)), -fans_N))
    popularity = [games.item_ids[row] for row in order.tolist() if fans_N[row]]
    num_fans = {games.item_ids[row]: int(fans_N[row]) for row in order.tolist() if fans_N[row]}
    retriever = Retriever(
        index,
        items,
        PooledHistory(items, config=PoolingConfig()),
        popularity=[(one, float(num_fans[one])) for one in popularity],
    )
    drawn = np.random.default_rng(0).choice(len(games.user_ids), size=num_users, replace=False)
    users = np.sort(drawn)
    targets = games.targets("test")
    judgements = [
        Judgement(
            user_id=games.user_ids[user],
            as_of=EPOCH,
            item_ids=frozenset({games.item_ids[targets[user]]}),
        )
        for user in users.tolist()
    ]
    seen = {
        games.user_ids[user]: frozenset(games.item_ids[row] for row in histories[user].tolist())
        for user in users.tolist()
    }
    everything = frozenset(games.item_ids)
    background = Background(
        popularity=popularity,
        seen=seen,
        num_fans=num_fans,
        num_users_before=len(games.user_ids),
        holdings=Holdings(item_ids=everything, with_vector=everything),
        index={"kind": "flat"},
    )
    before_mib, began, began_cpu = peak_mib(), time.perf_counter(), time.process_time()
    config = EvaluationConfig(max_reranked=0)
    found = evaluate(
        judgements,
        retrieve=lambda batch: retriever.retrieve_many(batch, limit=config.num_candidates),
        rerank=_never,
        background=background,
        exact_ranks=retriever.exact_ranks,
        queries=GameQueries(games, users),
        config=config,
        journal=Journal(folder / ".journal", key="scale"),
        on_progress=_shown,
    )
    write(found.report, folder)
    run_files.write(
        folder,
        runs=found.runs,
        judgements=found.judgements,
        parts=parts(found.judgements, background.item_facts, background.user_facts),
        positives=found.positives,
    )
    spent = found.report.manifest["durations"]
    return {
        "cpu_s": time.process_time() - began_cpu,
        "wall_s": time.perf_counter() - began,
        "retrieve_s": spent["retrieve_s"],
        "exact_s": spent["exact_s"],
        "before_mib": before_mib,
        "peak_mib": peak_mib(),
        "recall@100": found.report.candidate_recall["recall@100"].mean,
    }


def peak_mib() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _never(query: Query, candidates: Sequence[Candidate]) -> Ranking:
    raise AssertionError(f"nothing is reranked here, but {query.user_id} was")


def _shown(name: str, done: int, total: int) -> None:
    if done % 5120 < 256 or done == total:
        print(f"{name}: {done:,} of {total:,} users", flush=True)


def apart(num_users: int) -> dict[str, float]:
    """`measure` in a process of its own, whose memory is all its own."""
    with TemporaryDirectory(prefix="sommelier-scale-") as folder:
        command = [sys.executable, __file__, "--only", str(num_users), "--folder", folder]
        subprocess.run(command, check=True)
        found: dict[str, float] = json.loads((Path(folder) / "measured.json").read_text())
    return found


def main() -> None:
    """Measure, print, write."""
    options = parser("Evaluating retrieval on all users of the set games.")
    options.set_defaults(rounds=1)
    options.add_argument("--users", type=int, default=50_546, help="of the larger part")
    options.add_argument("--only", type=int, help="measure one part, in this process")
    options.add_argument("--folder", type=Path, help="where that one leaves its report")
    asked = options.parse_args()
    if asked.only:
        found = measure(asked.only, asked.folder)
        (asked.folder / "measured.json").write_text(json.dumps(found))
        return
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is missing: set SOMMELIER_SHARED_DATA to the folder of data sets")
    values: dict[str, list[float]] = {}
    for _ in range(asked.rounds):
        part, whole = apart(asked.users // 10), apart(asked.users)
        grown = {
            "users_per_minute": 60 * asked.users / whole["cpu_s"],
            "retrieve_share": whole["retrieve_s"] / whole["wall_s"],
            "exact_share": whole["exact_s"] / whole["wall_s"],
            "cpu_growth": whole["cpu_s"] / part["cpu_s"],
            "peak_growth": whole["peak_mib"] / part["peak_mib"],
            "peak_mib": whole["peak_mib"],
            "start_mib": whole["before_mib"],
            "recall_100": whole["recall@100"],
        }
        for name, value in grown.items():
            values.setdefault(name, []).append(value)
    about = [
        "users evaluated in a minute of CPU time, report and files included",
        "of the time, spent in retrieval",
        "of the time, spent in exact ranks of right answers",
        "CPU time of ten times as many users / of these",
        "peak memory of ten times as many users / of these",
        "MiB, the largest resident size with all users",
        "MiB before the evaluation began: libraries, vectors, index, histories",
        "of what is retrieved, as a check",
    ]
    publish(
        f"Evaluating retrieval on {asked.users:,} users, {asked.rounds} rounds",
        {name: figure(rounds) for name, rounds in values.items()},
        dict(zip(values, about, strict=True)),
        file=asked.json,
        packages=("numpy", "faiss-cpu", "pyarrow"),
    )


if __name__ == "__main__":
    main()
