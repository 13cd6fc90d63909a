"""A writer's answers in, durable texts and rejects out: what summaries and preferences share.

A batch is written as soon as it is answered, so whoever is killed asks at most one batch again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from embedders.items import Reject
from embedders.summaries.base import Unwritten, Usage
from embedders.summaries.config import WriterConfig
from embedders.texts import Texts, TextSource
from feature_repo.store import Store
from sommelier.set_aside import SetAside
from sommelier.watch import Watch

TEMPLATE_ROWS = 2048  # the template takes no time, and a batch is a file
LOCAL_TURNS, REMOTE_TURNS = 4, 8  # of a model's batch, and of all that a server answers at once
SHOWN = 5
MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run over the items, or over the users, goes on."""

    watch: Watch
    set_aside: SetAside
    rows_per_batch: int
    spent: Callable[[], str]
    """What it has cost so far, in words."""
    limit: int | None = None
    """So many items, or users, are asked about; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of one question."""

    row_id: str
    """The item's, or the user's."""
    answer: str | Unwritten
    content_hash: str
    event_timestamp: datetime
    position: int = 0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the items, or of the users."""

    what: str
    source: TextSource
    written: int = 0
    """Texts."""
    unchanged: int = 0
    rejected: int = 0
    lost: int = 0
    """Whose texts were taken away: nothing can be said of them any more."""
    mended: int = 0
    """Rows that were put right, since the events before them changed."""
    is_whole: bool = True
    """Whether all were looked at; a limit ends a run before."""
    first: list[tuple[str, str]] = field(default_factory=list)
    """The first ids and texts that were written, to be looked at."""

    def add(self, answered: Sequence[Answered]) -> None:
        """Count them."""
        for one in answered:
            if isinstance(one.answer, Unwritten):
                self.rejected += 1
                continue
            self.written += 1
            if len(self.first) < SHOWN:
                self.first.append((one.row_id, one.answer))


def keep(store: Store, source: TextSource, answered: Sequence[Answered]) -> list[Reject]:
    """Write the texts, as one part; those that were not written, with the reasons."""
    good = [one for one in answered if isinstance(one.answer, str)]
    if good:
        store.write_texts(
            Texts(
                source=source,
                row_ids=[one.row_id for one in good],
                texts=[str(one.answer) for one in good],
                positions=[one.position for one in good],
            ),
            content_hashes=[one.content_hash for one in good],
            event_timestamps=[one.event_timestamp for one in good],
        )
    return [
        Reject(source=source.source_id, key=one.row_id, reason=str(one.answer))
        for one in answered
        if isinstance(one.answer, Unwritten)
    ]


def rows_per_batch(config: WriterConfig) -> int:
    """How many texts are asked for, and become durable, together.

    Enough to keep the engine busy, few enough to be asked for again after a kill.
    """
    match config.engine:
        case "template":
            return TEMPLATE_ROWS
        case "transformers":
            return LOCAL_TURNS * config.batch_size
        case "openai":
            return REMOTE_TURNS * config.concurrency


def since(usage: Usage, before: Usage) -> Usage:
    """What was used after a moment at which it was `before`."""
    names = [one.name for one in fields(Usage)]
    return Usage(**{name: getattr(usage, name) - getattr(before, name) for name in names})


def spent(usage: Usage, config: WriterConfig) -> str:
    """What writing has cost, in words; money where both prices are known."""
    if not usage.num_prompts:
        return ""
    told = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    if usage.num_retries:
        told += f", {usage.num_retries:,} asked again"
    prices = (config.input_price, config.output_price)
    if prices[0] is None or prices[1] is None:
        return told
    money = usage.input_tokens * prices[0] + usage.output_tokens * prices[1]
    return f"{told}, {money / MILLION:,.4f} spent"
