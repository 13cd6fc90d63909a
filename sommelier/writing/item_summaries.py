"""The catalog's items in, what a writer says of them in the store out: only of what is new.

What an item shows is told apart by its digest, as embedding does it. A summary is true since when
its content is, for it knows of nothing but that: no event speaks in it.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from embedders.base import BadContent
from embedders.items import Item, Reject
from embedders.known import DELETED, Known, joined
from embedders.summaries.base import Unanswered, Unwritten
from embedders.summaries.item_summary import ItemSummarizer
from sommelier.watch import Advance
from sommelier.workspace import Workspace
from sommelier.writing.told import Answered, Run, Tally, keep

STEP = 256  # items between two words about the progress


def write_summaries(workspace: Workspace, summarizer: ItemSummarizer, run: Run) -> Tally:
    """Write what is new of the items, and take away the summaries of those that show nothing more.

    Items that are gone from the catalog are left to embedding, which takes away all there is.

    Raises:
        TooManyRejects: the limit of what is set aside was passed; what was written stays.
        ConnectionError: a server does not answer; what was written stays.
    """
    catalog, store = workspace.catalog, workspace.store
    with run.watch.task("summaries of items", total=catalog.num_items) as advance:
        writing = _Writing(workspace, summarizer, run, advance)
        # Closed, also where a server falls silent: files of both sides are open.
        with closing(joined(catalog.items(), store.known_texts(summarizer.source))) as pairs:
            for _, item, known in pairs:
                if item is not None and not writing.take(item, known):
                    break
        writing.write()
    if writing.lost_ids:
        at = datetime.now(UTC)
        store.delete_texts(summarizer.source, sorted(writing.lost_ids), at=at)
    return writing.tally


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    """An item that is to be summarized."""

    item: Item
    known: Known | None
    content_hash: str


class _Writing:
    """Items one by one in, batches of their summaries in the store out."""

    def __init__(
        self, workspace: Workspace, summarizer: ItemSummarizer, run: Run, advance: Advance
    ) -> None:
        self._store = workspace.store
        self._summarizer = summarizer
        self._run = run
        self._advance = advance
        self._pending: list[_Fresh] = []
        self._num_seen = 0
        self._num_asked = 0
        self.lost_ids: list[str] = []
        self.tally = Tally(what="items", source=summarizer.source)

    def take(self, item: Item, known: Known | None) -> bool:
        """Look at an item; whether the run goes on, or its limit was reached."""
        fresh = self._look(item, known)
        if fresh is not None:
            if self._run.limit is not None and self._num_asked >= self._run.limit:
                self.tally.is_whole = False
                return False
            self._num_asked += 1
            self._pending.append(fresh)
        self._num_seen += 1
        if len(self._pending) >= self._run.rows_per_batch:
            self.write()
        elif self._num_seen % STEP == 0:
            self._tell(0)
        return True

    def write(self) -> None:
        """Ask for what is pending, and make it durable."""
        if not self._pending:
            return
        items = [one.item for one in self._pending]
        try:
            answers = self._summarizer.summarize(items, on_progress=self._tell)
        except Unanswered as error:
            self._keep(error.answers)
            raise
        self._run.set_aside.add(self._keep(answers))

    def _keep(self, answers: Sequence[str | Unwritten | None]) -> list[Reject]:
        """Make what was answered of the pending ones durable; the rest with reasons."""
        now = datetime.now(UTC)
        answered = [
            Answered(
                row_id=one.item.item_id,
                answer=answer,
                content_hash=one.content_hash,
                event_timestamp=_true_from(one, now),
            )
            for one, answer in zip(self._pending, answers, strict=False)
            if answer is not None
        ]
        rejects = keep(self._store, self._summarizer.source, answered)
        self._pending = []
        self.tally.add(answered)
        self._tell(0)
        return rejects

    def _look(self, item: Item, known: Known | None) -> _Fresh | None:
        is_held = known is not None and known.content_hash != DELETED
        try:
            content_hash = self._summarizer.fingerprint(item)
        except BadContent as error:
            self.tally.rejected += 1
            source = self._summarizer.source.source_id
            reject = Reject(source=source, key=item.item_id, reason=str(error))
            self._run.set_aside.add([reject])
            return None
        if content_hash is None:
            if is_held:
                self.lost_ids.append(item.item_id)
                self.tally.lost += 1
            return None
        if known is not None and known.content_hash == content_hash:
            self.tally.unchanged += 1
            return None
        return _Fresh(item=item, known=known, content_hash=content_hash)

    def _tell(self, num_answered: int) -> None:
        num_done = self._num_seen - len(self._pending) + num_answered
        self._advance(num_done, note=self._run.spent())


def _true_from(fresh: _Fresh, now: datetime) -> datetime:
    """As an embedded content: since it came to be, or from now on where nobody says otherwise."""
    known, stated = fresh.known, fresh.item.content_time
    if known is None:
        return stated
    if known.content_hash != DELETED and stated > known.event_timestamp:
        return stated
    return max(now, known.event_timestamp)
