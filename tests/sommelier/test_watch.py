"""A stage may run without anyone watching."""

from sommelier.watch import Summary, Unwatched


def test_nobody_needs_to_watch() -> None:
    watch = Unwatched()
    with watch.task("anything", total=3) as advance:
        advance(1)
        advance(2, 4, "half")
    watch.say("a line")
    watch.heading("a title")
    watch.show(Summary(title="", header=(), rows=()))
