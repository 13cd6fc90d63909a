"""What prompts hold is what the settings name and somebody wrote, as of each moment."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedders.texts import TextKind
from ranker.config import PromptConfig
from sommelier.settings import TimeSettings
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from sommelier.writing.prompt_texts import learned_words, preferences, sources, summaries, texts_key
from sommelier.writing.summarize import summarize
from tests.sommelier.written_world import DAY, EVENTS, write_events, write_items
from tests.sommelier.written_world import workspace as written

BOTH = PromptConfig(candidates="both", summary_tokens=8, preference_tokens=8)
TICK = timedelta(microseconds=1)
GRAPH_UNTIL, CUT = 3, 6


def day(number: int) -> datetime:
    return datetime.fromisoformat(DAY.format(number)).astimezone(UTC)


def opened(folder: Path, prompt: PromptConfig = BOTH) -> Workspace:
    """The settings of `written_world`, with prompts and a cut of their own."""
    settings = written(folder).settings
    return Workspace(
        replace(
            settings,
            ranker=replace(settings.ranker, prompt=prompt),
            time=TimeSettings(graph_until=day(GRAPH_UNTIL), cut=day(CUT)),
        )
    )


@pytest.fixture
def folder(tmp_path: Path, imported_feast: None) -> Path:
    """Six items, three users with an event a day, and all that is to be written of them."""
    write_items(tmp_path, [f"Wine {n}" for n in range(6)])
    write_events(tmp_path, EVENTS)
    summarize(opened(tmp_path), watch=Unwatched())
    return tmp_path


def told(workspace: Workspace, *pairs: tuple[str, datetime]) -> list[str]:
    tell = preferences(workspace, sources(workspace))
    assert tell is not None
    return tell(pairs)


def test_by_default_prompts_hold_nothing_that_was_written(folder: Path) -> None:
    workspace = opened(folder, PromptConfig())
    assert sources(workspace) == ()
    assert preferences(workspace, ()) is None
    assert summaries(workspace, ()) == {}
    assert list(learned_words(workspace, ())) == []


def test_prompts_hold_what_the_settings_ask_for(folder: Path) -> None:
    workspace = opened(folder)
    kinds = [one.kind for one in sources(workspace)]
    assert kinds == [TextKind.SUMMARY, TextKind.PREFERENCE]
    assert sources(workspace) == (workspace.summary_source, workspace.preference_source)
    assert summaries(workspace, sources(workspace)) == workspace.summaries
    alone = opened(folder, PromptConfig(preference_tokens=8))
    assert sources(alone) == (alone.preference_source,)
    assert summaries(alone, sources(alone)) == {}


@pytest.mark.parametrize(
    ("prompt", "section"),
    [
        (PromptConfig(preference_tokens=8), "preferences"),
        (PromptConfig(candidates="titles", summary_tokens=8), "summaries"),
    ],
)
def test_what_nobody_wrote_is_asked_for_in_vain(
    prompt: PromptConfig, section: str, tmp_path: Path
) -> None:
    write_items(tmp_path, ["Wine"])
    write_events(tmp_path, EVENTS[:1])
    expected = rf"no {section} are written: set {section}.enabled = true and run `sommelier summ"
    with pytest.raises(ValueError, match=expected):
        sources(opened(tmp_path, prompt))


def test_a_preference_is_that_of_the_events_strictly_before_the_moment(folder: Path) -> None:
    workspace = opened(folder)
    second = day(2)  # a's second event, which fills the first block of two
    at, behind, later = told(workspace, ("a", second), ("a", second + TICK), ("a", day(7)))
    assert at == ""
    assert "x2" in behind or behind.count('"') == 4
    assert later not in ("", behind)
    assert told(workspace, ("a", day(3)), ("nobody", day(7))) == [behind, ""]


def test_the_key_knows_of_texts_before_the_cut_and_of_no_others(folder: Path) -> None:
    workspace = opened(folder)
    before = texts_key(workspace, sources(workspace))
    assert texts_key(opened(folder), sources(workspace)) == before

    def after(events: Mapping[str, int]) -> str:
        more = [(user, "i0", number) for user, number in events.items()]
        write_events(folder, [*EVENTS, *more])
        summarize(opened(folder), watch=Unwatched())
        again = opened(folder)
        return texts_key(again, sources(again))

    assert after({"a": 8, "b": 8}) == before, "b has another block of two, all behind the cut"
    assert after({"d": 1, "a": 9}) == before, "one event is no block"
    write_events(folder, [*EVENTS, ("d", "i1", 1), ("d", "i2", 2)])
    summarize(opened(folder), watch=Unwatched())
    again = opened(folder)
    assert texts_key(again, sources(again)) != before


def test_the_embedded_llm_learns_words_of_before_its_time(folder: Path) -> None:
    workspace = opened(folder)
    words = list(learned_words(workspace, sources(workspace)))
    own = [workspace.summaries[item_id] for item_id in sorted(workspace.known_items)]
    assert words[: len(own)] == own
    until = [(user_id, day(GRAPH_UNTIL)) for user_id in "abc"]
    assert words[len(own) :] == told(workspace, *until)
