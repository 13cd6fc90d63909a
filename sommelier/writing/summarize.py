"""A catalog in, what a model writes of its items and of its users in the store out.

Items first, each that is new or changed: what they show in words, picture and sound as one text.
Then users, block by block of their events, each told of with what was told before. Both are
written batch by batch, so that a run which is killed, interrupted or left by its server goes on
where it was, and asks nothing again that was answered.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from embedders.summaries import registry
from embedders.summaries.base import Usage, Writer
from embedders.summaries.config import WriterConfig
from embedders.summaries.item_summary import ItemSummarizer
from embedders.summaries.preference import PreferenceTeller
from sommelier.ordered_catalog import keep_one_clock
from sommelier.set_aside import SetAside
from sommelier.small_parts import merge_parts
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace
from sommelier.writing.item_summaries import write_summaries
from sommelier.writing.told import Run, Tally, rows_per_batch, since, spent
from sommelier.writing.user_preferences import write_preferences

NOTHING_ENABLED = (
    "nothing is to be written: set summaries.enabled = true for items, preferences.enabled = true "
    "for users, or both"
)
Write = Callable[[Workspace, Writer | None, Run], Tally]


def summarize(
    workspace: Workspace,
    *,
    watch: Watch,
    limit: int | None = None,
    max_rejects: int | None = None,
) -> Summary:
    """Write what is not written yet.

    Args:
        workspace: Whose.
        watch: Whoever watches.
        limit: So many items, or users, are asked about, to be looked at; what was written is
            kept, and read by nobody before a run without a limit has done the rest.
        max_rejects: More answers set aside than this end the run at once.

    Raises:
        ValueError: nothing is enabled, the writer cannot be used, or too many were set aside.
        ConnectionError: a server does not answer. Whatever was written stays.
    """
    settings = workspace.settings
    stages: list[tuple[Write, WriterConfig]] = []
    if settings.summaries.enabled:
        stages.append((_items, settings.summaries.writer))
    if settings.preferences.enabled:
        stages.append((_users, settings.preferences.writer))
    if not stages:
        raise ValueError(NOTHING_ENABLED)
    keep_one_clock(workspace.state, settings.time, workspace.catalog.interactions)
    set_aside = SetAside(workspace.store, limit=max_rejects)
    done: list[tuple[Tally, str]] = []
    with closing(_Desk(watch, set_aside, limit)) as desk:
        for write, config in stages:
            done.append(desk.have_written(workspace, write, config))
            tally, _ = done[-1]
            if not tally.is_whole:
                break  # users are told of by whole summaries, or not at all
            workspace.note_source(tally.source)
    merge_parts(workspace.store, watch)
    return _summary(done, set_aside, has_limit=limit is not None)


def _items(workspace: Workspace, writer: Writer | None, run: Run) -> Tally:
    config = workspace.settings.summaries.config
    return write_summaries(workspace, ItemSummarizer(config, writer), run)


def _users(workspace: Workspace, writer: Writer | None, run: Run) -> Tally:
    # The template counts categories and titles, whatever was written of the items.
    source = None if writer is None else workspace.summary_source
    config = workspace.settings.preferences.config
    teller = PreferenceTeller(config, writer, summaries=source)
    return write_preferences(workspace, teller, run, has_summaries=source is not None)


class _Desk:
    """Seats one writer at a time: two models need not fit into memory together."""

    def __init__(self, watch: Watch, set_aside: SetAside, limit: int | None) -> None:
        self._watch, self._set_aside, self._limit = watch, set_aside, limit
        self._config: WriterConfig | None = None
        self._writer: Writer | None = None

    def have_written(
        self, workspace: Workspace, write: Write, config: WriterConfig
    ) -> tuple[Tally, str]:
        """What a stage wrote by the writer of a configuration, and what it cost, in words."""
        writer = self._seat(config)
        usage = writer.usage if writer else Usage()
        before = replace(usage)  # both stages may have the same writer

        def cost() -> str:
            return spent(since(usage, before), config)

        run = Run(
            watch=self._watch,
            set_aside=self._set_aside,
            rows_per_batch=rows_per_batch(config),
            spent=cost,
            limit=self._limit,
        )
        return write(workspace, writer, run), cost()

    def _seat(self, config: WriterConfig) -> Writer | None:
        """The writer, the one who sits there already if it is theirs; None for the template."""
        if self._writer is not None and self._config == config:
            return self._writer
        self.close()
        if config.engine != "template":
            key = os.environ.get(config.key_variable) if config.engine == "openai" else None
            with self._watch.task(f"writer {config.model}"):
                self._writer = registry.open_writer(config, key=key)
        self._config = config
        return self._writer

    def close(self) -> None:
        """Let go of whoever sits there."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _summary(done: Sequence[tuple[Tally, str]], set_aside: SetAside, *, has_limit: bool) -> Summary:
    tallies = [tally for tally, _ in done]
    notes = [f"{tally.what}: {cost}" for tally, cost in done if cost]
    for one in tallies:
        if one.mended:
            notes.append(
                f"{one.mended:,} earlier rows of {one.what} were put right: events before them "
                "came late or changed"
            )
        if has_limit:
            notes += [f"{row_id}: {text}" for row_id, text in one.first]
        if not one.is_whole:
            notes.append(f"the limit left other {one.what} out: run `sommelier summarize` for all")
    if set_aside.num:
        notes.append(f"{set_aside.num:,} were set aside. {set_aside.listed()}")
    return Summary(
        title="Summarized",
        header=("of", "written by", "written", "unchanged", "set aside", "taken away"),
        rows=tuple(_row(one) for one in tallies),
        notes=tuple(notes),
        is_new=any(one.written or one.lost or one.mended for one in tallies),
    )


def _row(tally: Tally) -> tuple[str | int, ...]:
    return (
        tally.what,
        tally.source.writer,
        tally.written,
        tally.unchanged,
        tally.rejected,
        tally.lost,
    )
