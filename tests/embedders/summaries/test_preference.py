"""Preferences go on from the text before them, and notice events that changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders.items import Interaction
from embedders.summaries.base import Prompt, Unanswered, Unwritten
from embedders.summaries.config import PreferenceConfig, WriterConfig
from embedders.summaries.preference import Event, PreferenceTeller, Step, left, steps
from embedders.texts import TextKind, TextSource
from tests.embedders.summaries.hostile import TITLES, read_frame
from tests.embedders.summaries.scripted import ScriptedWriter

MODEL = WriterConfig(engine="transformers", model="any")
CONFIG = PreferenceConfig(writer=MODEL, max_tokens=100)
DIRECT = PreferenceConfig(writer=MODEL, mode="direct", max_events=4)
SUMMARIES = TextSource(kind=TextKind.SUMMARY, writer="w", revision="1", prompt="p")
START = datetime(2024, 1, 1, tzinfo=UTC)
BEFORE = "preference before these events"

EVENTS = (
    Event(behavior="rate", weight=4.5, title="Heat", category="Action", summary="Robbers."),
    Event(behavior="view", title="Red"),
)


def answer(prompt: Prompt) -> str:
    """The titles told of, behind the preference before them."""
    read = read_frame(prompt.text)
    return " ".join([read.get(BEFORE, "likes"), *(one["title"] for one in read["events"])])


def history(count: int) -> list[Interaction]:
    """Events a minute apart."""
    return [
        Interaction(
            user_id="u",
            item_id=f"i{n}",
            behavior="view",
            weight=float(n),
            timestamp=START + timedelta(minutes=n),
        )
        for n in range(count)
    ]


def test_a_step_tells_the_events_and_the_preference_before_them() -> None:
    writer = ScriptedWriter(answer)
    teller = PreferenceTeller(CONFIG, writer, summaries=SUMMARIES)
    assert teller.tell([(EVENTS, None), (EVENTS, "likes Ran")]) == [
        "likes Heat Red",
        "likes Ran Heat Red",
    ]
    first, second = writer.asked
    assert read_frame(second.text) == {
        BEFORE: "likes Ran",
        "events": [
            {
                "did": "rate",
                "title": "Heat",
                "category": "Action",
                "about": "Robbers.",
                "rating": 4.5,
            },
            {"did": "view", "title": "Red"},
        ],
    }
    assert BEFORE not in read_frame(first.text)
    assert first.max_tokens == second.max_tokens == 100
    assert "at most 60 words" in first.instruction


def test_blocks_told_one_by_one_carry_all_that_was_told() -> None:
    teller = PreferenceTeller(CONFIG, ScriptedWriter(answer))
    text: str | Unwritten | None = None
    for titles in ("abc", "def", "ghi"):
        assert not isinstance(text, Unwritten)
        (text,) = teller.tell([([Event(behavior="view", title=one) for one in titles], text)])
    assert text == "likes a b c d e f g h i"


def test_one_user_s_failure_is_theirs_alone() -> None:
    def failing(prompt: Prompt) -> str | Unwritten:
        return Unwritten("too odd") if "Ran" in prompt.text else answer(prompt)

    ran, red = ([Event(behavior="view", title=title)] for title in ("Ran", "Red"))
    teller = PreferenceTeller(CONFIG, ScriptedWriter(failing))
    first, second, third = teller.tell([(red, None), (ran, None), (red, "likes Heat")])
    assert (first, str(second), third) == ("likes Red", "too odd", "likes Heat Red")
    assert isinstance(second, Unwritten)


def test_of_a_server_that_dies_the_answers_so_far_are_handed_over_plain() -> None:
    writer = ScriptedWriter(lambda _: "likes\n<s>", dies_after=1)
    red = [Event(behavior="view", title="Red")]
    with pytest.raises(Unanswered) as caught:
        PreferenceTeller(CONFIG, writer).tell([(red, None), (red, None)])
    assert caught.value.answers == ("likes \u2039s\u203a",)


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_hostile_words_and_a_hostile_preference_stay_in_the_frame(title: str) -> None:
    writer = ScriptedWriter(lambda _: "x")
    teller = PreferenceTeller(CONFIG, writer, summaries=SUMMARIES)
    for words in (title, "mild"):
        said = f"t {words}"
        event = Event(behavior=said, title=said, weight=1.0, category=said, summary=said)
        teller.tell([([event, event], said)])
    hostile, mild = writer.asked
    assert hostile.instruction == mild.instruction
    assert hostile.text.split("\n")[2:] == mild.text.split("\n")[2:]
    there, here = read_frame(hostile.text), read_frame(mild.text)
    assert list(there) == list(here) == [BEFORE, "events"]
    assert [one.keys() for one in there["events"]] == [one.keys() for one in here["events"]]


def test_a_long_preference_is_read_back_whole() -> None:
    writer = ScriptedWriter(answer)
    long = " ".join(["word"] * 1_500)
    PreferenceTeller(CONFIG, writer).tell([([Event(behavior="view", title="Red")], long)])
    assert read_frame(writer.asked[0].text)[BEFORE] == long


def test_what_cannot_be_asked_is_refused() -> None:
    teller = PreferenceTeller(CONFIG, ScriptedWriter(answer))
    with pytest.raises(ValueError, match="at least one event"):
        teller.tell([((), None)])
    with pytest.raises(ValueError, match="name their source"):
        teller.tell([(EVENTS, None)])
    with pytest.raises(ValueError, match="all is told at once"):
        PreferenceTeller(DIRECT, ScriptedWriter(answer)).tell([(EVENTS[1:], "likes")])
    with pytest.raises(ValueError, match="do not go together"):
        PreferenceTeller(CONFIG, None)


def test_the_source_changes_with_every_setting_that_changes_a_text() -> None:
    writer = ScriptedWriter(answer)
    source = PreferenceTeller(CONFIG, writer).source
    assert source.kind is TextKind.PREFERENCE
    others = [
        PreferenceTeller(replace(CONFIG, max_tokens=99), writer),
        PreferenceTeller(replace(CONFIG, block_size=4), writer),
        PreferenceTeller(replace(CONFIG, mode="direct"), writer),
        PreferenceTeller(replace(CONFIG, mode="direct", max_events=9), writer),
        PreferenceTeller(CONFIG, writer, summaries=SUMMARIES),
        PreferenceTeller(CONFIG, writer, summaries=replace(SUMMARIES, revision="2")),
        PreferenceTeller(CONFIG, ScriptedWriter(answer, revision="2")),
        PreferenceTeller(PreferenceConfig(), None),
        PreferenceTeller(PreferenceConfig(block_size=4), None),
    ]
    assert len({source.source_id, *(one.source.source_id for one in others)}) == 10
    assert PreferenceTeller(replace(CONFIG, max_events=9), writer).source == source


def test_the_template_tells_by_counts_and_is_named() -> None:
    told: list[int] = []
    teller = PreferenceTeller(PreferenceConfig(), None)
    events = [Event(behavior="view", title="Ran", category="Drama")]
    assert teller.source.source_id.startswith("preference_template_")
    (first,) = teller.tell([(events, None)], on_progress=told.append)
    assert first == 'The user\'s choices: Drama x1; lately "Ran"'
    (second,) = teller.tell([(events, first)])
    assert second == 'The user\'s choices: Drama x2; lately "Ran"; "Ran"'
    (foreign,) = teller.tell([(events, "by somebody else")])
    assert isinstance(foreign, Unwritten)
    assert told == [1]


def test_steps_are_of_whole_blocks_and_visible_just_after_their_last_event() -> None:
    made = steps(history(8), CONFIG)
    assert [(one.start, one.stop, one.position) for one in made] == [(0, 3, 3), (3, 6, 6)]
    moment = START + timedelta(minutes=5)
    assert made[1].event_timestamp == moment + timedelta(microseconds=1)


def test_direct_steps_are_of_the_last_events_up_to_there() -> None:
    made = steps(history(9), DIRECT)
    assert [(one.start, one.stop) for one in made] == [(0, 3), (2, 6), (5, 9)]


def test_a_step_s_digest_is_of_all_events_up_to_it() -> None:
    whole = steps(history(9), CONFIG)
    assert [one.content_hash for one in steps(history(6), CONFIG)] == [
        one.content_hash for one in whole[:2]
    ]
    for change in (
        {"item_id": "other"},
        {"behavior": "buy"},
        {"weight": None},
        {"timestamp": START + timedelta(minutes=4, seconds=1)},
    ):
        events = history(9)
        events[4] = replace(events[4], **change)  # type: ignore[arg-type]
        changed = steps(events, CONFIG)
        same = [
            one.content_hash == other.content_hash
            for one, other in zip(whole, changed, strict=True)
        ]
        assert same == [True, False, False]


def rows(made: list[Step]) -> dict[int, str]:
    return {one.position: one.content_hash for one in made}


def test_new_events_cost_their_own_blocks_alone() -> None:
    assert (
        left(steps(history(9), CONFIG), rows(steps(history(6), CONFIG)))
        == (steps(history(9), CONFIG)[2:])
    )
    assert left(steps(history(8), CONFIG), rows(steps(history(6), CONFIG))) == []


def test_the_latest_row_alone_is_enough_to_go_on() -> None:
    known = steps(history(6), CONFIG)[-1]
    made = left(steps(history(9), CONFIG), {known.position: known.content_hash})
    assert [one.stop for one in made] == [9]


@given(at=st.integers(0, 10), count=st.integers(12, 15))
def test_a_late_event_has_the_user_told_again_from_its_block_on(at: int, count: int) -> None:
    events = history(count)
    late = replace(events[at], item_id="late")
    known = rows(steps(events, CONFIG))
    made = left(steps([*events[: at + 1], late, *events[at + 1 :]], CONFIG), known)
    assert made[0].start == (at + 1) // 3 * 3
    assert made[-1].stop == (count + 1) // 3 * 3


def test_events_without_an_order_in_time_are_refused() -> None:
    events = history(3)
    with pytest.raises(ValueError, match="event 1 of user 'u' is earlier"):
        steps([events[1], events[0], events[2]], CONFIG)
    with pytest.raises(ValueError, match="event 0 of user 'u' has no time"):
        steps([replace(events[0], timestamp=None)], CONFIG)
