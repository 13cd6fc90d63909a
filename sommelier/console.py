"""Summaries and progress in, a readable terminal out; on a pipe, plain lines without color."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sommelier.watch import Advance, Summary, Watch

LINE_EVERY_S = 20.0  # on a pipe, a long task says how far it is
SHOWN_AFTER_S = 0.5  # on a pipe, a task that took less is not worth a line


class Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


class ConsoleWatch(Watch):
    """Bars on a terminal; elsewhere a line for each finished task, and a few for a long one."""

    def __init__(self, console: Console, *, line_every_s: float = LINE_EVERY_S) -> None:
        self._console = console
        self._line_every_s = line_every_s

    @contextmanager
    def task(self, name: str, *, total: int | None = None) -> Iterator[Advance]:
        began = time.perf_counter()
        last = [began]
        with self._bars() as bars:
            bar = bars.add_task(escape(name), total=total, note="")

            def advance(done: int, total: int | None = None, note: str = "") -> None:
                bars.update(bar, completed=done, note=escape(note))
                if total is not None:
                    bars.update(bar, total=total)
                now = time.perf_counter()
                if not self._console.is_terminal and now - last[0] > self._line_every_s:
                    last[0] = now
                    of = f" of {bars.tasks[0].total:,.0f}" if bars.tasks[0].total else ""
                    self._console.print(f"  {escape(name)}: {done:,}{of} {escape(note)}".rstrip())

            yield advance
            done, note = int(bars.tasks[0].completed), bars.tasks[0].fields["note"]
        seconds = time.perf_counter() - began
        if not self._console.is_terminal and (seconds > SHOWN_AFTER_S or done):
            count = f" {done:,} in" if done else ""
            self._console.print(f"  {escape(name)}:{count} {seconds:.1f} s {note}".rstrip())

    def say(self, text: str) -> None:
        self._console.print(f"  {escape(text)}", soft_wrap=True)

    def heading(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/]", soft_wrap=True)

    def show(self, summary: Summary) -> None:
        """A stage's exit summary."""
        table = Table(title=escape(summary.title), title_justify="left", title_style="bold")
        for place, name in enumerate(summary.header):
            is_number = any(isinstance(row[place], int | float) for row in summary.rows)
            justify: Literal["left", "right"] = "right" if is_number else "left"
            table.add_column(escape(name), justify=justify, overflow="fold")
        for row in summary.rows:
            table.add_row(*(_cell(one) for one in row))
        self._console.print(table)
        for note in summary.notes:
            self._console.print(f"  {escape(note)}", soft_wrap=True)

    def _bars(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
