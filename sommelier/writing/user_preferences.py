"""Users' events in, what a writer says of their preferences in the store out, block by block.

Every round asks for the next step of as many users as go into one batch, and writes what it
answers: nothing is asked twice that was written once, whenever a run ends. A user whose step was
not answered waits for the next run, since every later step is made of that one.

A row is true from a microsecond after its last event on: whoever asks as of an event sees what was
told of the events strictly before it. Events without a time have no such place, and are not read.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime

from embedders.items import Reject
from embedders.summaries.base import Unanswered, Unwritten
from embedders.summaries.preference import Event, PreferenceTeller
from feature_repo.store import Store
from sommelier.watch import Advance
from sommelier.workspace import Workspace
from sommelier.writing.told import Answered, Run, Tally, keep
from sommelier.writing.user_chains import Chain, chains, num_steps

Facts = tuple[str, str | None, str | None]
"""An item's title, category and summary."""
WINDOW = 2  # batches of users that are held at once


def write_preferences(
    workspace: Workspace, teller: PreferenceTeller, run: Run, *, has_summaries: bool
) -> Tally:
    """Tell what is new of every user in the catalog's events.

    Args:
        workspace: Whose.
        teller: Made with the workspace's own settings.
        run: How to go on.
        has_summaries: Whether it reads the items' summaries.

    Raises:
        TooManyRejects: the limit of what is set aside was passed; what was written stays.
        ConnectionError: a server does not answer; what was written stays.
    """
    events, config = workspace.catalog.interactions, workspace.settings.preferences.config
    total = None if run.limit is not None else num_steps(events, config)
    with run.watch.task("preferences of users, blocks", total=total) as advance:
        telling = _Telling(teller, run, workspace.store, advance)
        telling.items = _items(workspace, has_summaries=has_summaries)
        telling.is_recurrent = config.mode == "recurrent"
        # Closed, also where a server falls silent: files of both sides are open.
        with closing(chains(events, workspace.store, teller.source, config)) as users:
            for chain in users:
                if not telling.take(chain):
                    break
        telling.finish()
    return telling.tally


class _Telling:
    """Users one by one in, batches of their next steps in the store out."""

    items: Mapping[str, Facts]
    is_recurrent: bool = True

    def __init__(self, teller: PreferenceTeller, run: Run, store: Store, advance: Advance) -> None:
        self._store = store
        self._teller = teller
        self._run = run
        self._advance = advance
        self._asking: deque[Chain] = deque()
        self._unfounded: list[tuple[datetime, Chain]] = []
        self._mended: list[Answered] = []
        self._num_users = 0
        self._num_done = 0
        self.tally = Tally(what="users", source=teller.source)

    def take(self, chain: Chain) -> bool:
        """Look at a user; whether the run goes on, or its limit was reached."""
        if chain.waiting:
            if self._run.limit is not None and self._num_users >= self._run.limit:
                self.tally.is_whole = False
                return False
            self._num_users += 1
        num_told = len(chain.steps) - len(chain.waiting)
        self.tally.unchanged += num_told
        self._num_done += num_told
        at = chain.unfounded()
        if at is None:
            self._go_on(chain)
        else:
            self._unfounded.append((at, chain))
            if len(self._unfounded) >= self._run.rows_per_batch:
                self._bury()
        while len(self._asking) >= WINDOW * self._run.rows_per_batch:
            self._round()
        return True

    def finish(self) -> None:
        """Tell what is left of the users taken."""
        self._bury()
        while self._asking:
            self._round()
        self._mend()

    def _go_on(self, chain: Chain) -> None:
        if chain.waiting:
            self._asking.append(chain)
        else:
            self._end(chain)

    def _end(self, chain: Chain) -> None:
        self._mended += chain.mended()
        if len(self._mended) >= self._run.rows_per_batch:
            self._mend()

    def _bury(self) -> None:
        """Take away what was told of events that are no more, before anything is written anew."""
        if not self._unfounded:
            return
        # Nobody's text is older than their own first unfounded one: the earliest serves them all.
        at = min(moment for moment, _ in self._unfounded)
        found = [chain for _, chain in self._unfounded]
        self._unfounded = []
        self._store.delete_texts(self._teller.source, [one.user_id for one in found], at=at)
        for chain in found:
            chain.bury(at)
            self.tally.lost += not chain.steps
            self._go_on(chain)

    def _mend(self) -> None:
        keep(self._store, self._teller.source, self._mended)
        self.tally.mended += len(self._mended)
        self._mended = []

    def _round(self) -> None:
        """The next step of a batch of users."""
        size = min(self._run.rows_per_batch, len(self._asking))
        batch = [self._asking.popleft() for _ in range(size)]
        asked = [self._asked(chain) for chain in batch]
        try:
            answers = self._teller.tell(asked, on_progress=self._tell)
        except Unanswered as error:
            self._keep(batch, error.answers)
            raise
        self._run.set_aside.add(self._keep(batch, answers))
        for chain, answer in zip(batch, answers, strict=True):
            if isinstance(answer, str) and chain.waiting:
                self._asking.append(chain)
            else:
                self._end(chain)

    def _asked(self, chain: Chain) -> tuple[list[Event], str | None]:
        step = chain.waiting[0]
        events = []
        for one in chain.history[step.start : step.stop]:
            title, category, summary = self.items[one.item_id]
            events.append(
                Event(
                    behavior=one.behavior,
                    title=title,
                    weight=one.weight,
                    category=category,
                    summary=summary,
                )
            )
        return events, chain.before if self.is_recurrent else None

    def _keep(
        self, batch: Sequence[Chain], answers: Sequence[str | Unwritten | None]
    ) -> list[Reject]:
        """Make what was answered durable, and take it over; the rest with reasons."""
        pairs = list(zip(batch, answers, strict=False))  # a silent server's answers may be fewer
        answered = [
            Answered(
                row_id=chain.user_id,
                answer=answer,
                content_hash=chain.waiting[0].content_hash,
                event_timestamp=chain.waiting[0].event_timestamp,
                position=chain.waiting[0].position,
            )
            for chain, answer in pairs
            if answer is not None
        ]
        rejects = keep(self._store, self._teller.source, answered)
        self.tally.add(answered)
        for chain, answer in pairs:
            if isinstance(answer, str):
                chain.tell(answer)
        self._num_done += len(answered)
        self._tell(0)
        return rejects

    def _tell(self, num_answered: int) -> None:
        self._advance(self._num_done + num_answered, note=self._run.spent())


def _items(workspace: Workspace, *, has_summaries: bool) -> dict[str, Facts]:
    summaries = workspace.summaries if has_summaries else {}
    return {
        item.item_id: (item.title, item.category, summaries.get(item.item_id))
        for item in workspace.catalog.items()
    }
