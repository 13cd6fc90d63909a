"""Users' events and what the store has told of them in, each user's steps told and untold out.

A step's digest is chained over all events up to there, so an event that comes late, or changes,
shows in every later digest: those steps are told again, and whatever was said of the old events is
put right at its own moment, since a later row would go on answering for it.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import pyarrow as pa

from embedders.items import Interaction
from embedders.known import DELETED
from embedders.summaries.config import PreferenceConfig
from embedders.summaries.preference import Step, left, steps
from embedders.texts import TextSource
from feature_repo import parts
from feature_repo.store import Store
from feature_repo.tables import CREATED, EVENT_TIME, text_view
from sommelier.writing.told import Answered

BATCH_ROWS = 10_000
EVENTS = """
    SELECT user_id, item_id, behavior, weight, "timestamp" FROM events
    WHERE "timestamp" IS NOT NULL ORDER BY user_id, "timestamp", "position", n
    """
ROWS = f"""
    SELECT user_id, {EVENT_TIME}, content_hash, "text" FROM {parts.ROWS}
    ORDER BY user_id, {EVENT_TIME}, {CREATED}
    """  # nosec B608


@dataclass(slots=True, kw_only=True)
class Chain:
    """One user's steps, and what is known of them."""

    user_id: str
    history: list[Interaction]
    """Oldest first; every event has a time."""
    steps: list[Step]
    rows: dict[datetime, str] = field(default_factory=dict)
    """Moment -> the digest of the row that answers from then on."""
    texts: dict[str, str] = field(default_factory=dict)
    """Digest -> text, of every row there ever was."""
    waiting: deque[Step] = field(default_factory=deque)
    """To be told, the earliest first."""

    @property
    def before(self) -> str | None:
        """What was told before the next step; None where that is the first."""
        place = len(self.steps) - len(self.waiting)
        return self.texts[self.steps[place - 1].content_hash] if place else None

    def tell(self, text: str) -> None:
        """Take the next step's text, which the store holds by now."""
        step = self.waiting.popleft()
        self.texts[step.content_hash] = text
        self.rows[step.event_timestamp] = step.content_hash

    def unfounded(self) -> datetime | None:
        """The first moment at which the store answers, though no step ends by then."""
        first = self.steps[0].event_timestamp if self.steps else None
        live = [moment for moment, digest in self.rows.items() if digest != DELETED]
        return min((one for one in live if first is None or one < first), default=None)

    def bury(self, at: datetime) -> None:
        """Take it that the rows from a moment on were taken away."""
        self.rows |= {moment: DELETED for moment in self.rows if moment >= at}

    def mended(self) -> list[Answered]:
        """A row for each moment at which the store answers with another step than the latest."""
        told = [step for step in self.steps if step.content_hash in self.texts]
        ends = [step.event_timestamp for step in told]
        found = []
        for moment, digest in sorted(self.rows.items()):
            place = bisect_right(ends, moment)
            if not place or told[place - 1].content_hash == digest:
                continue
            step = told[place - 1]
            found.append(
                Answered(
                    row_id=self.user_id,
                    answer=self.texts[step.content_hash],
                    content_hash=step.content_hash,
                    event_timestamp=moment,
                    position=step.position,
                )
            )
        return found


def chains(
    interactions: pa.Table, store: Store, source: TextSource, config: PreferenceConfig
) -> Generator[Chain, None, None]:
    """Every user with an event that has a time, by id; streamed.

    Users of whom the store knows and the events do not keep what they have, as with histories.

    Args:
        interactions: Of the catalog.
        store: Where the rows are.
        source: Of which source.
        config: How the steps are cut.
    """
    stored = _stored(store, source)
    row = next(stored, None)
    for user_id, history in _histories(interactions):
        chain = Chain(user_id=user_id, history=history, steps=steps(history, config))
        while row is not None and row[0] < user_id:
            row = next(stored, None)
        while row is not None and row[0] == user_id:
            _, moment, digest, text = row
            chain.rows[moment] = digest
            if digest != DELETED:
                chain.texts[digest] = text
            row = next(stored, None)
        known = {one.position: one.content_hash for one in chain.steps}
        told = {place: one for place, one in known.items() if one in chain.texts}
        chain.waiting.extend(left(chain.steps, told))
        yield chain


def num_steps(interactions: pa.Table, config: PreferenceConfig) -> int:
    """All steps of all users."""
    with parts.connect() as connection:
        connection.register("events", interactions)
        row = connection.execute(
            "SELECT coalesce(sum(num // $size), 0)::BIGINT FROM ("
            'SELECT count("timestamp") AS num FROM events GROUP BY user_id)',
            {"size": config.block_size},
        ).fetchone()
    assert row is not None
    return int(row[0])


def _histories(interactions: pa.Table) -> Iterator[tuple[str, list[Interaction]]]:
    numbers = pa.array(range(interactions.num_rows), pa.int64())
    with parts.connect() as connection:
        connection.register("events", interactions.append_column("n", numbers))
        reader = connection.execute(EVENTS).to_arrow_reader(BATCH_ROWS)
        events = (Interaction(**row) for batch in reader for row in batch.to_pylist())
        for user_id, history in groupby(events, key=lambda event: event.user_id):
            yield user_id, list(history)


def _stored(store: Store, source: TextSource) -> Iterator[tuple[str, datetime, str, str]]:
    """Every row of the source, by user and moment; of one moment the latest comes last."""
    if source.source_id not in store.text_sources():
        return
    for batch in parts.stream(store.root, text_view(source), ROWS, {}):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
