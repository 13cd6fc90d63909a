"""A user in, titled items in their order out: from a server, or from a generation loaded here.

Light to import: whoever asks a server needs gRPC alone, and loads it with the first question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ranker.ranking import Explanation, Ranking, Status
from ranker.serving import Serving
from retrieval.candidates import Query
from retrieval.filters import Filter
from sommelier.watch import Summary

LONGEST_BAR = 8  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One item of an answer."""

    item_id: str
    title: str
    rank: int
    score: float
    retrieval_rank: int
    retrieval_score: float
    status: Status
    probability: float | None = None
    explanation: Explanation | None = None

    @property
    def move(self) -> str:
        """`▲3`, `▼1`, or nothing."""
        if not self.rank or not self.retrieval_rank or self.rank == self.retrieval_rank:
            return ""
        places = self.retrieval_rank - self.rank
        return f"▲{places}" if places > 0 else f"▼{-places}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A local or a remote answer."""

    user_id: str
    generation_id: str
    judged_by: str
    lines: tuple[Line, ...]
    source: str
    """The server's address, or `this process`."""


def asked(
    user_id: str,
    *,
    conditions: Sequence[str],
    deny: Sequence[str],
    weights: Sequence[str],
    behavior: str | None = None,
) -> Query:
    """A query as words of the command line describe it.

    Args:
        user_id: Whose.
        conditions: Such as `price<=20`, as `Filter.parse` reads them.
        deny: Items that are not wanted.
        weights: Such as `text=0.5`: how much a block counts this once.
        behavior: What is asked about; None for any choice.

    Raises:
        ValueError: a condition or a weight that is not understood.
    """
    filters = Filter.parse(conditions, deny=deny) if conditions or deny else None
    weighed: dict[str, float] = {}
    for word in weights:
        name, _, text = word.partition("=")
        try:
            weighed[name.strip()] = float(text)
        except ValueError as error:
            raise ValueError(
                f"--weight {word}: expected a block's name, such as text=0.5"
            ) from error
    return Query(user_id=user_id, filters=filters, weights=weighed or None, behavior=behavior)


def recommend(
    serving: Serving, query: Query, *, top_k: int, num_candidates: int, explain: bool = False
) -> Reply:
    """The best that the query allows of the catalog, found in this process.

    Raises:
        ValueError: the store does not know the user, or the generation lacks what the query
            filters by or weighs.
    """
    _check_user(serving, query.user_id)
    candidates = serving.retrieve(query, limit=max(top_k, num_candidates))
    ranking = serving.rerank(query, candidates, num_explained=top_k if explain else 0)
    return _local(serving, query.user_id, ranking, top_k)


def rerank(
    serving: Serving,
    *,
    user_id: str,
    item_ids: Sequence[str],
    behavior: str | None = None,
    explain: bool = False,
) -> Reply:
    """These items in the user's order, found in this process; unknown ones come last.

    Raises:
        ValueError: the store does not know the user, an item is named twice, or the ranker cannot
            be asked about the behavior.
    """
    _check_user(serving, user_id)
    query = Query(user_id=user_id, behavior=behavior)
    candidates = serving.score(query, item_ids)
    ranking = serving.rerank(query, candidates, num_explained=len(candidates) if explain else 0)
    reply = _local(serving, user_id, ranking, len(item_ids))
    known = {line.item_id for line in reply.lines}
    unknown = tuple(
        Line(
            item_id=item_id,
            title="",
            rank=0,
            score=0.0,
            retrieval_rank=0,
            retrieval_score=0.0,
            status=Status.UNKNOWN_ITEM,
        )
        for item_id in sorted(set(item_ids) - known)
    )
    return Reply(
        user_id=user_id,
        generation_id=reply.generation_id,
        judged_by=reply.judged_by,
        lines=reply.lines + unknown,
        source=reply.source,
    )


def recommend_from(
    address: str,
    *,
    user_id: str,
    top_k: int,
    timeout_s: float,
    num_candidates: int = 0,
    behavior: str | None = None,
    explain: bool = False,
) -> Reply:
    """The best of the whole catalog, asked of a server."""
    from ranker.client import RankerClient

    with RankerClient(address, timeout_s=timeout_s) as client:
        answer = client.recommend(
            user_id=user_id,
            top_k=top_k,
            num_candidates=num_candidates,
            behavior=behavior or "",
            explain=explain,
        )
        return _remote(address, user_id, answer)


def rerank_from(
    address: str,
    *,
    user_id: str,
    item_ids: Sequence[str],
    timeout_s: float,
    behavior: str | None = None,
    explain: bool = False,
) -> Reply:
    """These items in the user's order, asked of a server."""
    from ranker.client import RankerClient

    with RankerClient(address, timeout_s=timeout_s) as client:
        answer = client.rerank(item_ids, user_id=user_id, behavior=behavior or "", explain=explain)
        return _remote(address, user_id, answer)


def summary(reply: Reply) -> Summary:
    """The reply as a table; a column says how likely a choice is, where that is known."""
    is_calibrated = any(line.probability is not None for line in reply.lines)
    chance = ("chance",) if is_calibrated else ()
    return Summary(
        title=f"For {reply.user_id}",
        header=("rank", "item", "title", "score", *chance, "retrieved", "moved", "status"),
        rows=tuple(
            (
                str(line.rank or "-"),
                line.item_id,
                line.title,
                f"{line.score:.3f}" if line.rank else "",
                *((_chance(line),) if is_calibrated else ()),
                str(line.retrieval_rank or "-"),
                line.move,
                "" if line.status is Status.OK else line.status.replace("_", " "),
            )
            for line in reply.lines
        ),
        notes=(
            f"generation {reply.generation_id}, judged by {reply.judged_by or 'nobody'}, "
            f"from {reply.source}",
        ),
    )


def reasons(reply: Reply) -> Summary:
    """What each block adds to the scores: numbers with bars, all to one scale."""
    explained = [(line, line.explanation) for line in reply.lines if line.explanation]
    blocks = sorted({block for _, one in explained for block in one.contributions})
    values = [abs(value) for _, one in explained for value in one.contributions.values()]
    scale = max(values, default=0.0) or 1.0
    return Summary(
        title="What the scores are made of",
        header=("rank", "item", "without vectors", *blocks, "score"),
        rows=tuple(
            (
                str(line.rank),
                line.title or line.item_id,
                f"{one.base:+.3f}",
                *(_bar(one.contributions.get(block, 0.0), scale) for block in blocks),
                f"{line.score:+.3f}",
            )
            for line, one in explained
        ),
        notes=(
            "each block's exact Shapley value; a row adds up to the score (█ adds, ░ takes away)",
        ),
    )


def _bar(value: float, scale: float) -> str:
    """`+0.42 ███`, as long as its share of the largest; nothing for a block that does nothing."""
    if not value:
        return ""
    length = round(LONGEST_BAR * abs(value) / scale)
    return f"{value:+.3f} {('█' if value > 0 else '░') * length}".rstrip()


def _chance(line: Line) -> str:
    return "" if line.probability is None else f"{line.probability:.1%}"


def _check_user(serving: Serving, user_id: str) -> None:
    if serving.history(user_id) is None:
        raise ValueError(
            f"the store knows no user {user_id!r}: name one of the catalog's interactions, or "
            "ask the server with an inline history"
        )


def _local(serving: Serving, user_id: str, ranking: Ranking, top_k: int) -> Reply:
    titles = {item.item_id: serving.title(item.item_id) or "" for item in ranking.items[:top_k]}
    return _reply("this process", user_id, ranking, titles, top_k)


def _remote(address: str, user_id: str, answer: Ranking) -> Reply:
    titles = {item.item_id: getattr(item, "title", "") for item in answer.items}
    return _reply(address, user_id, answer, titles, len(answer.items))


def _reply(
    source: str, user_id: str, ranking: Ranking, titles: dict[str, str], top_k: int
) -> Reply:
    return Reply(
        user_id=user_id,
        generation_id=ranking.generation_id,
        judged_by=ranking.judged_by,
        source=source,
        lines=tuple(
            Line(
                item_id=item.item_id,
                title=titles[item.item_id],
                rank=item.rank,
                score=item.score,
                retrieval_rank=item.retrieval_rank,
                retrieval_score=item.retrieval_score,
                status=item.status,
                probability=item.probability,
                explanation=item.explanation,
            )
            for item in ranking.items[:top_k]
        ),
    )
