"""A small world whose right answers are known by construction.

Every user likes one of twelve flavors and goes on to choose new items of it. Retrieval finds the
flavor but orders it badly; the reranker knows which of its items come first.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from evaluation.evaluate import Evaluation, evaluate
from evaluation.example import Explained, ExplainedItem, HistoryLine, example
from evaluation.findings import Background
from evaluation.judgements import Judgement
from evaluation.ledger import Holdings
from evaluation.protocol import EvaluationConfig
from evaluation.report import Report
from evaluation.routes import ExactRanks, Retrieve, Route
from ranker.ranking import RankedItem, Ranking, Status
from retrieval.candidates import Candidate, Query

CUT = datetime(2024, 3, 1, tzinfo=UTC)
NUM_ITEMS, NUM_FLAVORS = 600, 12
NUM_BLANK = 10  # the last items have no vector
ITEM_IDS = [f"i{number:03d}" for number in range(NUM_ITEMS)]
HOSTILE = "<script>alert('corked')</script>"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Users, what they had met, what they chose, and the two rankers of different skill."""

    judgements: tuple[Judgement, ...]
    seen: dict[str, frozenset[str]]
    popularity: tuple[str, ...]
    route: Callable[[float, float], Route]
    """Skill of retrieval and skill of reranking, 0 to 1 -> the route."""
    exact_ranks: Callable[[float], ExactRanks]
    """Skill of retrieval -> where an exact search of the same skill puts items."""

    @property
    def background(self) -> Background:
        return Background(
            popularity=self.popularity,
            seen=self.seen,
            num_fans={one: len(self.popularity) - n for n, one in enumerate(self.popularity)},
            num_users_before=len(self.popularity),
            holdings=Holdings(
                item_ids=frozenset(ITEM_IDS),
                with_vector=frozenset(ITEM_IDS[:-NUM_BLANK]),
                stale=frozenset(ITEM_IDS[:NUM_BLANK]),
            ),
        )


def make_world(*, num_users: int) -> World:
    rng = np.random.default_rng(7)
    judgements, seen = [], {}
    for number in range(num_users):
        flavor = number % NUM_FLAVORS
        shelf = rng.permutation(np.arange(flavor, NUM_ITEMS, NUM_FLAVORS))
        num_seen = int(rng.choice([2, 6, 12, 25]))
        user_id = f"u{number:04d}"
        seen[user_id] = frozenset(map(ITEM_IDS.__getitem__, shelf[:num_seen]))
        chosen = shelf[num_seen : num_seen + int(rng.integers(1, 4))]
        judgements.append(
            Judgement(
                user_id=user_id,
                as_of=CUT,
                item_ids=frozenset(map(ITEM_IDS.__getitem__, chosen)),
                unknown_item_ids=frozenset({"gone"} if number % 10 == 0 else ()),
            )
        )
    truth = {judgement.user_id: judgement.item_ids for judgement in judgements}

    def route(retrieval_skill: float, rerank_skill: float) -> Route:
        def retrieve(queries: Sequence[Query]) -> list[list[Candidate]]:
            return [_retrieved(query, seen, retrieval_skill) for query in queries]

        def rerank(query: Query, candidates: Sequence[Candidate]) -> Ranking:
            return _reranked(query, candidates, truth[query.user_id], rerank_skill)

        return retrieve, rerank

    def exact_ranks(skill: float) -> ExactRanks:
        def ranks(
            queries: Sequence[Query], item_ids: Sequence[Collection[str]]
        ) -> list[dict[str, int]]:
            orders = [_ordered(query, seen, skill)[1] for query in queries]
            return [
                {
                    ITEM_IDS[i]: rank
                    for rank, i in enumerate(order, start=1)
                    if ITEM_IDS[i] in sought
                }
                for order, sought in zip(orders, item_ids, strict=True)
            ]

        return ranks

    return World(
        judgements=tuple(judgements),
        seen=seen,
        popularity=tuple(map(ITEM_IDS.__getitem__, rng.permutation(NUM_ITEMS - 60))),
        route=route,
        exact_ranks=exact_ranks,
    )


def lossy(retrieve: Retrieve) -> Retrieve:
    """The same route through an index that overlooks some items, and goes on below."""

    def overlooking(queries: Sequence[Query]) -> list[list[Candidate]]:
        return [
            [one for one in found if (int(one.item_id[1:]) + int(query.user_id[1:])) % 17]
            for query, found in zip(queries, retrieve(queries), strict=True)
        ]

    return overlooking


def _noise(query: Query, salt: int, size: int) -> np.ndarray:
    return np.random.default_rng([salt, int(query.user_id[1:])]).normal(size=size)


def _ordered(
    query: Query, seen: dict[str, frozenset[str]], skill: float
) -> tuple[np.ndarray, list[int]]:
    """The score of every item, and the items that may be found, best first."""
    flavor = int(query.user_id[1:]) % NUM_FLAVORS
    score_N = _noise(query, 1, NUM_ITEMS) + 3 * skill * (
        np.arange(NUM_ITEMS) % NUM_FLAVORS == flavor
    )
    hidden = seen[query.user_id] | set(ITEM_IDS[-NUM_BLANK:])
    return score_N, [i for i in np.argsort(-score_N).tolist() if ITEM_IDS[i] not in hidden]


def _retrieved(query: Query, seen: dict[str, frozenset[str]], skill: float) -> list[Candidate]:
    score_N, best = _ordered(query, seen, skill)
    return [
        Candidate(item_id=ITEM_IDS[i], score=float(score_N[i]), rank=rank)
        for rank, i in enumerate(best[:110], start=1)
    ]


def _reranked(
    query: Query, candidates: Sequence[Candidate], chosen: frozenset[str], skill: float
) -> Ranking:
    noise = 0.3 * _noise(query, 2, len(candidates))
    scored = sorted(
        (-(one.score + noise[i] + 2 * skill * (one.item_id in chosen)), one.item_id, one)
        for i, one in enumerate(candidates)
    )
    return Ranking(
        items=tuple(
            RankedItem(
                item_id=one.item_id,
                rank=rank,
                score=float(-score),
                logit=0.0,
                status=Status.OK,
                retrieval_rank=one.rank,
                retrieval_score=one.score,
            )
            for rank, (score, _, one) in enumerate(scored, start=1)
        ),
        generation_id="g-20240301",
        judged_by="oracle",
    )


QUICK = EvaluationConfig(samples=1000)


CURVE = [
    {"effort": 1, "recall": 0.81, "p50_ms": 0.11, "p99_ms": 0.3},
    {"effort": 4, "recall": 0.953, "p50_ms": 0.21, "p99_ms": 0.5},
    {"effort": 16, "recall": 0.994, "p50_ms": 0.62, "p99_ms": 1.4},
]


def make_evaluation(world: World, **options: Any) -> Evaluation:
    retrieve, rerank = world.route(0.7, 0.5)
    judged = world.judgements[3]
    query = Query(user_id=judged.user_id)
    titles = {one: f"Bottle {i}" for i, one in enumerate(ITEM_IDS)}
    ranking = rerank(query, retrieve([query])[0])
    titles[ranking.items[0].item_id] = HOSTILE
    given = {
        "retrieve": lossy(retrieve),
        "rerank": rerank,
        "background": replace(
            world.background, index={"kind": "ivf", "effort": 16, "curve": CURVE}
        ),
        "exact_ranks": world.exact_ranks(0.7),
        "config": QUICK,
    }
    return evaluate(
        world.judgements,
        ablations={
            "text": world.route(0.35, 0.3),
            "audio": world.route(0.7, 0.46),
            "image": world.route(0.62, 0.5),
            "graph": world.route(0.55, 0.45),
        },
        counts={"num_users_after": len(world.judgements) + 41, "num_without_history": 41},
        manifest={"catalog": "sha256:0f3a"},
        example=example(
            ranking,
            judged,
            titles=titles,
            history=[
                HistoryLine(title=titles[one], behavior="purchase")
                for one in sorted(world.seen[judged.user_id])
            ][:8],
            why="drawn at random",
        ),
        **given | options,
    )


def reasoned(report: Report) -> Report:
    """The same with two users explained, the second one's title hostile, and one behavior."""
    items = tuple(
        ExplainedItem(
            item_id=f"i{rank}",
            title=f"A bottle with quite a long name, the {rank}th",
            rank=rank,
            score=-0.5 + 0.25 - 0.125 * rank,
            base=-0.5,
            contributions={"audio": 0.25, "graph": -0.125 * rank, "text": 0.0},
            is_chosen=rank == 2,
        )
        for rank in (1, 2, 3)
    )
    worse = (replace(items[0], title=HOSTILE, contributions={"image": 0.25, "text": -0.125}),)
    part = replace(report.slices[0], group="behavior", name="purchase")
    return replace(
        report,
        explained=(
            Explained(user_id="u0001", items=items),
            Explained(user_id=HOSTILE, items=worse),
        ),
        behaviors=(part,),
    )


def make_report(world: World) -> Report:
    return make_evaluation(world).report
