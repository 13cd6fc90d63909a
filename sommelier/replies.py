"""Answers in, tables for a terminal out: the items in their order, and why they stand there."""

from dataclasses import dataclass

from ranker.ranking import Explanation, RankedItem, Status
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

    @classmethod
    def of(cls, item: RankedItem, *, title: str) -> "Line":
        """A ranked item with its title."""
        return cls(
            item_id=item.item_id,
            title=title,
            rank=item.rank,
            score=item.score,
            retrieval_rank=item.retrieval_rank,
            retrieval_score=item.retrieval_score,
            status=item.status,
            probability=item.probability,
            explanation=item.explanation,
        )

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
    is_degraded: bool = False
    """Whether time ran out before it was complete, or the history is old."""
    is_final: bool = True
    """Whether no better one follows."""


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
            *(("not complete: better ones follow",) if not reply.is_final else ()),
            *(
                ("not as good as it could be: time ran out, or the history is old",)
                if reply.is_degraded
                else ()
            ),
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
