"""Judged users in, the few whom a report shows out.

One is shown in full, some with what the scores of their first items are made of. They are never
picked for how well reranking did.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from embedders.items import Interaction
from evaluation.example import Example, Explained, HistoryLine, example, explained
from evaluation.judgements import Judgement
from ranker.loaded import LoadedGeneration
from retrieval.candidates import Candidate, Query

LEAST_SHOWN = 5  # events in the history of a user who is shown
TRIED = 50  # users among whom they are looked for
NUM_EXPLAINED = 4  # users
ITEMS_EXPLAINED = 8  # of each
WHY = f"the first by id with {LEAST_SHOWN} or more events and a choice that was found"

Found = tuple[Judgement, Query, Sequence[Candidate]]


def shown(
    serving: LoadedGeneration,
    judgements: Sequence[Judgement],
    queries: Sequence[Query],
    *,
    titles: Mapping[str, str],
    limit: int,
    is_reranked: bool,
) -> tuple[Example | None, tuple[Explained, ...]]:
    """The first users by id with some history and a choice that was found.

    Args:
        serving: Who answers.
        judgements: By user id.
        queries: Aligned to them.
        titles: Of the items.
        limit: How many candidates there are.
        is_reranked: Whether anything is explained: else there is no score to speak of.

    Returns:
        The first of them in full, None where there is none; and the first few with the scores of
        their first items taken apart.
    """
    whole: Example | None = None
    apart: list[Explained] = []
    for judgement, query, candidates in islice(
        _found(serving, judgements, queries, limit=limit), NUM_EXPLAINED if is_reranked else 1
    ):
        num_explained = ITEMS_EXPLAINED if is_reranked else 0
        ranking = serving.rerank(query, candidates, num_explained=num_explained)
        if is_reranked:
            apart.append(explained(ranking, judgement, titles=titles))
        if whole is None:
            whole = example(
                ranking,
                judgement,
                titles=titles,
                history=[_line(event, titles) for event in query.history or ()],
                why=WHY,
            )
    return whole, tuple(apart)


def _found(
    serving: LoadedGeneration,
    judgements: Sequence[Judgement],
    queries: Sequence[Query],
    *,
    limit: int,
) -> Iterator[Found]:
    for judgement, query in zip(judgements[:TRIED], queries[:TRIED], strict=True):
        if len(query.history or ()) < LEAST_SHOWN:
            continue
        candidates = serving.retrieve_many([query], limit=limit)[0]
        if judgement.item_ids & {one.item_id for one in candidates}:
            yield judgement, query, candidates


def _line(event: Interaction, titles: Mapping[str, str]) -> HistoryLine:
    return HistoryLine(title=titles.get(event.item_id) or event.item_id, behavior=event.behavior)
