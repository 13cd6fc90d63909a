"""Choices of one behavior and the route asked about it in, how well it foresees that behavior out.

Whoever ranks for purchases should be judged by purchases, and asked about them. So each behavior
has judgements of its own: what users newly did in that way; a choice in another way is none. The
reranker is asked about that behavior; retrieval, which takes no notice of it, is the same.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from evaluation.journal import Journal
from evaluation.judgements import Judgement, drawn
from evaluation.protocol import EvaluationConfig
from evaluation.routes import OnProgress, Route, travel
from evaluation.significance import bootstrap
from evaluation.slices import Part, Slice, measured
from retrieval.candidates import Query

GROUP = "behavior"

Asked = tuple[Sequence[Judgement], Sequence[Query]]
"""Judgements of one behavior, and aligned to them the queries that ask about it."""


def by_behavior(
    asked: Mapping[str, Asked],
    route: Route,
    *,
    config: EvaluationConfig,
    journal: Journal | None = None,
    on_progress: OnProgress,
) -> tuple[Slice, ...]:
    """The route judged by each behavior alone, in their order; none where nobody reranks.

    Of each behavior's users as many are drawn as `config.max_reranked` allows. A behavior that
    nobody newly did is left out.
    """
    bootstrapped = partial(bootstrap, samples=config.samples, seed=config.seed, level=config.level)
    found = []
    for name, (judgements, queries) in asked.items():
        users = drawn(judgements, config.max_reranked, config.seed)
        rows = [n for n, one in enumerate(judgements) if one.user_id in users]
        if not rows:
            continue
        part = Part(group=GROUP, name=name, judgements=tuple(judgements[n] for n in rows))
        traveled = travel(
            [queries[n] for n in rows],
            route,
            name=f"asked about {name}",
            limit=config.num_candidates,
            batch_size=config.batch_size,
            on_progress=on_progress,
            judgements=part.judgements,
            journal=journal,
        )
        found.append(
            measured(
                part,
                traveled.retrieved,
                traveled.reranked,
                k=config.headline_k,
                bootstrapped=bootstrapped,
            )
        )
    return tuple(found)
