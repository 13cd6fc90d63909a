"""Summaries are tables, and on a pipe every task that mattered leaves one plain line."""

import io

from rich.console import Console

from sommelier.console import ConsoleWatch
from sommelier.watch import Summary


def piped() -> tuple[ConsoleWatch, io.StringIO]:
    shown = io.StringIO()
    return ConsoleWatch(Console(file=shown, width=100)), shown


def test_a_finished_task_is_one_line_on_a_pipe() -> None:
    watch, shown = piped()
    with watch.task("text [mini]", total=3) as advance:
        for done in range(1, 4):
            advance(done, note=f"loss 0.{done}")
    assert shown.getvalue().startswith("  text [mini]: 3 in ")
    assert shown.getvalue().endswith("s loss 0.3\n")


def test_a_long_task_says_on_a_pipe_how_far_it_is() -> None:
    shown = io.StringIO()
    watch = ConsoleWatch(Console(file=shown, width=100), line_every_s=0)
    with watch.task("training") as advance:
        advance(5, 10, note="loss 0.5")
    assert shown.getvalue().splitlines()[0] == "  training: 5 of 10 loss 0.5"


def test_a_task_of_a_moment_that_counted_nothing_leaves_no_line() -> None:
    watch, shown = piped()
    with watch.task("opening"):
        pass
    assert shown.getvalue() == ""


def test_a_total_may_become_known_later() -> None:
    watch, shown = piped()
    with watch.task("training") as advance:
        advance(5, 10)
    assert "training: 5 in" in shown.getvalue()


def test_a_summary_shows_every_row_and_note() -> None:
    watch, shown = piped()
    watch.show(
        Summary(
            title="Embedded",
            header=("modality", "embedded"),
            rows=(("text", 1234), ("[image]", 0.5)),
            notes=("one [note]",),
        )
    )
    text = shown.getvalue()
    assert "Embedded" in text
    assert "1,234" in text
    assert "[image]" in text
    assert "one [note]" in text


def test_a_terminal_sees_a_bar_and_no_line_is_left_of_it() -> None:
    shown = io.StringIO()
    watch = ConsoleWatch(Console(file=shown, width=100, force_terminal=True))
    with watch.task("graph", total=2) as advance:
        advance(2, note="loss 0.1")
    watch.say("done")
    watch.heading("next")
    assert "graph" in shown.getvalue()
    assert shown.getvalue().index("done") < shown.getvalue().index("next")
