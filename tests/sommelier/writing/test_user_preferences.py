"""Users are told of block by block: nothing twice, nothing of the future, late events put right."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedders.summaries.base import Prompt, Unanswered, Unwritten
from embedders.summaries.config import WriterConfig
from embedders.summaries.preference import PreferenceTeller
from feature_repo.text_rows import WrittenText
from sommelier.workspace import Workspace
from sommelier.writing.told import Tally
from sommelier.writing.user_preferences import write_preferences
from tests.embedders.summaries.scripted import ScriptedWriter
from tests.sommelier.written_world import (
    EVENTS,
    Event,
    run,
    teller,
    workspace,
    write_events,
    write_items,
)

MODEL = WriterConfig(engine="transformers", model="m")
NUM_STEPS = 8  # 3, 3 and 2
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path, [f"Wine {n}" for n in range(6)])
    write_events(tmp_path, EVENTS, timeless=["a", "loner"])
    return tmp_path


def noon(day: int) -> datetime:
    return datetime(2024, 3, day, 12, tzinfo=UTC)


def tell(opened: Workspace, *, rows_per_batch: int = 2, limit: int | None = None) -> Tally:
    made = run(opened, rows_per_batch=rows_per_batch, limit=limit)
    return write_preferences(opened, teller(opened), made, has_summaries=False)


def by_model(
    opened: Workspace, writer: ScriptedWriter, *, rows_per_batch: int = 2, limit: int | None = None
) -> Tally:
    told = PreferenceTeller(opened.settings.preferences.config, writer)
    made = run(opened, rows_per_batch=rows_per_batch, limit=limit)
    return write_preferences(opened, told, made, has_summaries=False)


def read(folder: Path, tally: Tally, as_of: datetime | None = None) -> dict[str, WrittenText]:
    return workspace(folder).store.read_texts(tally.source, as_of=as_of)


def counter() -> ScriptedWriter:
    """Says how often it was asked: no two of its texts are the same."""
    writer = ScriptedWriter(lambda prompt: f"told {len(writer.asked)}")
    return writer


def test_every_whole_block_is_told_and_the_rest_waits(folder: Path) -> None:
    tally = tell(workspace(folder))
    found = read(folder, tally)
    assert tally.written == NUM_STEPS
    assert {user: one.position for user, one in found.items()} == {"a": 6, "b": 6, "c": 4}
    assert found["b"].text.startswith("The user's choices: ")


def test_a_row_is_seen_right_after_its_last_event_and_not_at_it(folder: Path) -> None:
    tally = tell(workspace(folder))
    assert "a" not in read(folder, tally, as_of=noon(2))
    assert read(folder, tally, as_of=noon(2) + MICROSECOND)["a"].position == 2
    assert read(folder, tally, as_of=noon(4))["a"].position == 2
    assert read(folder, tally, as_of=noon(4) + MICROSECOND)["a"].position == 4


def test_each_round_asks_for_the_next_block_of_all_users_at_once(folder: Path) -> None:
    class Rounds(ScriptedWriter):
        def write(
            self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
        ) -> list[str | Unwritten]:
            rounds.append(len(prompts))
            return super().write(prompts, on_progress=on_progress)

    rounds: list[int] = []
    writer = Rounds(lambda prompt: f"told {len(writer.asked)}")
    by_model(workspace(folder, writer=MODEL), writer, rows_per_batch=10)
    assert rounds == [3, 3, 2]
    assert "told 1" in writer.asked[3].text  # what was told of a's first block


def test_a_second_run_asks_nothing(folder: Path) -> None:
    writer = counter()
    by_model(workspace(folder, writer=MODEL), writer)
    tally = by_model(workspace(folder, writer=MODEL), writer)
    assert len(writer.asked) == NUM_STEPS
    assert (tally.written, tally.unchanged) == (0, NUM_STEPS)


def test_new_events_cost_one_block(folder: Path) -> None:
    writer = counter()
    by_model(workspace(folder, writer=MODEL), writer)
    write_events(folder, [*EVENTS, ("a", "i3", 8)])
    tally = by_model(workspace(folder, writer=MODEL), writer)
    assert len(writer.asked) == NUM_STEPS + 1
    assert tally.written == 1
    assert "Wine 3" in writer.asked[-1].text
    assert read(folder, tally)["a"].position == 8


@pytest.mark.parametrize("dies_after", range(1, NUM_STEPS))
def test_a_run_that_ends_anywhere_goes_on_and_ends_as_an_unbroken_one(
    folder: Path, dies_after: int
) -> None:
    def answer(prompt: Prompt) -> str:
        return f"They like {sum(map(ord, prompt.text))}."

    dying = ScriptedWriter(answer, dies_after=dies_after)
    with pytest.raises(Unanswered):
        by_model(workspace(folder, writer=MODEL), dying)
    again = ScriptedWriter(answer)
    tally = by_model(workspace(folder, writer=MODEL), again)
    assert len(again.asked) == NUM_STEPS - dies_after  # nothing twice

    texts = {user: one.text for user, one in read(folder, tally).items()}
    unbroken = folder / "unbroken"
    write_items(unbroken, [f"Wine {n}" for n in range(6)])
    write_events(unbroken, EVENTS)
    whole = by_model(workspace(unbroken, writer=MODEL), ScriptedWriter(answer))
    assert {user: one.text for user, one in read(unbroken, whole).items()} == texts


def test_a_block_that_was_not_written_makes_its_user_wait_and_nobody_else(folder: Path) -> None:
    def answer(prompt: Prompt) -> str | Unwritten:
        is_odd = not writer.is_mended and len(writer.asked) == 1
        return Unwritten("too odd") if is_odd else "told"

    class Mendable(ScriptedWriter):
        is_mended = False

    writer = Mendable(answer)
    opened = workspace(folder, writer=MODEL)
    tally = by_model(opened, writer)
    assert (tally.written, tally.rejected) == (NUM_STEPS - 3, 1)
    assert set(read(folder, tally)) == {"b", "c"}
    assert [(one.key, one.reason) for one in opened.store.rejects()] == [("a", "too odd")]

    writer.is_mended = True
    assert by_model(workspace(folder, writer=MODEL), writer).written == 3


def as_of_every_moment(folder: Path, tally: Tally) -> list[dict[str, str]]:
    store = workspace(folder).store
    moments = [noon(day) + MICROSECOND for day in (1, 2, 3, 4, 5, 6, 7, 9)]
    found = [store.read_texts(tally.source, as_of=moment) for moment in moments]
    return [{user: one.text for user, one in texts.items()} for texts in found]


@pytest.mark.parametrize(
    "changed",
    [
        [("a", "i0", 1), *EVENTS],
        [*EVENTS, ("a", "i5", 3)],
        [one for one in EVENTS if one != ("a", "i4", 4)],
        [one for one in EVENTS if one[:1] != ("a",) or one[2] > 3],
        [one for one in EVENTS if one[0] != "a" or one[2] > 6],
        [(user, "i0" if day == 5 else item, day) for user, item, day in EVENTS],
    ],
    ids=["first", "in the midst", "one gone", "the first gone", "almost all gone", "other items"],
)
def test_whatever_changed_it_reads_as_if_it_had_never_been_otherwise(
    folder: Path, changed: Sequence[Event]
) -> None:
    tell(workspace(folder))
    write_events(folder, sorted(changed, key=lambda one: (one[0], one[2])))
    tally = tell(workspace(folder))
    fresh = folder / "fresh"
    write_items(fresh, [f"Wine {n}" for n in range(6)])
    write_events(fresh, sorted(changed, key=lambda one: (one[0], one[2])))
    from_nothing = tell(workspace(fresh))

    assert as_of_every_moment(folder, tally) == as_of_every_moment(fresh, from_nothing)
    third = tell(workspace(folder))
    assert (third.written, third.mended) == (0, 0)


def test_the_past_does_not_change_with_the_future(folder: Path) -> None:
    """Whatever happens later, what is read as of a moment stays what it was."""
    tally = tell(workspace(folder))
    other = folder / "other"
    write_items(other, [f"Wine {n}" for n in range(6)])
    future = [(user, "i0", day) for user, _, day in EVENTS if day > 4]
    write_events(other, [*(one for one in EVENTS if one[2] <= 4), *future, *future])
    traveled = tell(workspace(other))
    for moment in (noon(3), noon(4), noon(4) + MICROSECOND):
        mine, others = read(folder, tally, as_of=moment), read(other, traveled, as_of=moment)
        assert {user: one.text for user, one in mine.items()} == {
            user: one.text for user, one in others.items()
        }
    assert read(folder, tally)["a"].text != read(other, traveled)["a"].text


def test_users_whom_the_catalog_names_no_more_keep_what_was_told(folder: Path) -> None:
    tell(workspace(folder))
    write_events(folder, [one for one in EVENTS if one[0] != "b"])
    assert "b" in read(folder, tell(workspace(folder)))


def test_told_at_once_means_from_the_last_events_alone(folder: Path) -> None:
    opened = workspace(folder, writer=MODEL, mode="direct", max_events=3)
    writer = counter()
    tally = by_model(opened, writer)
    assert tally.written == NUM_STEPS
    assert not any("told" in one.text for one in writer.asked)
    longest = max(writer.asked, key=lambda one: one.text.count('"did"'))
    assert longest.text.count('"did"') == 3


def test_a_limit_tells_of_so_many_users(folder: Path) -> None:
    tally = tell(workspace(folder), limit=1)
    assert (tally.written, tally.is_whole) == (3, False)
    rest = tell(workspace(folder), limit=2)
    assert (rest.written, rest.is_whole) == (NUM_STEPS - 3, True)
