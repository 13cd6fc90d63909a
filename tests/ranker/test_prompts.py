"""Prompts are written code by code as documented: words, behaviors, item tokens, evidence."""

from dataclasses import replace

import pytest

from embedders.items import Interaction
from ranker.config import PromptConfig
from ranker.prompts import (
    BEHAVIOR,
    EVIDENCE,
    FRAME,
    ITEM,
    LINE,
    OTHER,
    PHRASES,
    PREFERENCE,
    STRIDE,
    UNTITLED,
    WORD,
    Prompter,
    bounded,
    frame,
    label,
    vocabulary,
)

WORDS = {
    word: n
    for n, word in enumerate(
        (*PHRASES, "red", "wine", "dark", "bread", UNTITLED, "dry", "old", "|"), start=10
    )
}
BEHAVIORS = (OTHER, "rate", "rate 4.5", "view")
HISTORY = (
    Interaction(item_id="wine", behavior="view"),
    Interaction(item_id="bread", behavior="view"),
    Interaction(item_id="gone", behavior="view"),
    Interaction(item_id="wine", behavior="rate", weight=4.5),
    Interaction(item_id="cheese", behavior="taste"),
)


def words(text: str) -> list[int]:
    """Numbers of words; the end of a line is `|`."""
    return [WORDS[word] for word in text.replace(LINE, "|").split()]


def prompter(**config: object) -> Prompter:
    return Prompter(
        tokenize=words,
        quote=words,
        row_of={"bread": 0, "wine": 1, "cheese": 2},
        titles={"bread": "dark bread", "wine": "red wine"},
        summaries={"wine": "dry old", "cheese": "old"},
        behaviors=BEHAVIORS,
        num_tokens=2,
        config=PromptConfig(**config),  # type: ignore[arg-type]
    )


def read(codes: object) -> str:
    """Codes as text: `history: <view> #0 #1` and so on."""
    names = {number: word for word, number in WORDS.items()}
    written = []
    for code in codes.tolist():  # type: ignore[attr-defined]
        kind, place = divmod(code, STRIDE)
        written.append(
            {
                WORD: names.get(place, "?"),
                BEHAVIOR: f"<{BEHAVIORS[place]}>" if place < len(BEHAVIORS) else "?",
                ITEM: f"#{place}",
                EVIDENCE: f"e{place}",
            }[kind]
        )
    return " ".join(written)


def test_the_codes_are_kind_times_stride_plus_place() -> None:
    assert prompter().branch("wine", slot=7).tolist() == [
        WORDS["candidate:"],
        2 * STRIDE + 2,
        2 * STRIDE + 3,
        3 * STRIDE + 7,
        WORDS["choose?"],
    ]


def test_a_history_is_written_oldest_first_and_each_item_at_its_last_event() -> None:
    expected = "history: <view> #0 #1 <rate 4.5> #2 #3 <other> #4 #5"
    assert read(prompter().prefix(HISTORY)) == expected


def test_the_querys_own_words_stand_first_and_are_cut_off() -> None:
    assert read(prompter().prefix(HISTORY[1:2], text="red wine")) == (
        "red wine history: <view> #0 #1"
    )
    assert read(prompter(text_tokens=1).prefix((), text="dark wine")) == "dark history:"
    assert read(prompter().prefix((), text="")) == read(prompter().prefix(()))
    with pytest.raises(ValueError, match="text_tokens must be at least 0"):
        PromptConfig(text_tokens=-1)


def test_the_preference_stands_before_the_history_and_is_cut_off() -> None:
    asked = prompter(preference_tokens=2)
    assert read(asked.prefix(HISTORY[1:2], text="red wine", preference="dry old bread")) == (
        "red wine preference: dry old history: <view> #0 #1"
    )


@pytest.mark.parametrize("preference", [None, "", " "])
def test_where_nothing_is_written_of_a_user_the_prompt_is_as_without(
    preference: str | None,
) -> None:
    asked = prompter(preference_tokens=2)
    assert read(asked.prefix((), preference=preference)) == "history:"


def test_a_preference_is_read_only_where_the_configuration_says_so() -> None:
    assert read(prompter().prefix((), preference="dry")) == "history:"
    assert frame(PromptConfig()) == FRAME
    assert frame(PromptConfig(preference_tokens=1)) == (*FRAME, PREFERENCE)


def test_summaries_stand_behind_titles_wherever_titles_are_written() -> None:
    asked = prompter(candidates="both", summary_tokens=1)
    assert read(asked.branch("wine", slot=3)) == "candidate: red wine | dry #2 #3 e3 choose?"
    assert read(asked.branch("bread", slot=0)) == "candidate: dark bread #0 #1 e0 choose?"
    assert read(asked.branch("cheese", slot=0)) == "candidate: old #4 #5 e0 choose?"
    assert read(asked.prefix(HISTORY[:1])) == "history: <view> #2 #3"
    asked = prompter(history="titles", summary_tokens=9)
    assert read(asked.prefix(HISTORY[:2])) == "history: <view> red wine | dry old <view> dark bread"
    assert read(asked.branch("wine", slot=None)) == "candidate: #2 #3 choose?"


def test_a_summary_stands_for_an_item_without_a_title() -> None:
    asked = prompter(candidates="titles", summary_tokens=9)
    assert read(asked.branch("cheese", slot=0)) == "candidate: old e0 choose?"
    assert read(replace(asked, summaries={}).branch("cheese", slot=0)) == (
        "candidate: untitled e0 choose?"
    )


def test_a_summary_is_not_written_where_none_is_to_be_read() -> None:
    asked = prompter(candidates="both")
    assert read(asked.branch("wine", slot=0)) == "candidate: red wine #2 #3 e0 choose?"


def test_of_a_long_text_no_more_is_tokenized_than_may_be_written() -> None:
    seen: list[str] = []

    def quote(text: str) -> list[int]:
        seen.append(text)
        return []

    asked = replace(prompter(candidates="both", summary_tokens=3, preference_tokens=2), quote=quote)
    told = replace(asked, summaries={"wine": "x" * 9999})
    told.branch("wine", slot=0)
    told.prefix((), preference="y" * 9999)
    assert [len(text) for text in seen if set(text) <= {"x", "y"} and text] == [48, 32]
    assert bounded("dry old", 1) == "dry old"


def test_an_item_that_is_not_known_is_passed_over() -> None:
    assert read(prompter().prefix(HISTORY[2:3])) == "history:"
    assert read(prompter().prefix(())) == "history:"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, "history:"),
        (1, "history: <other> #4 #5"),
        (2, "history: <rate 4.5> #2 #3 <other> #4 #5"),
        (9, "history: <view> #0 #1 <rate 4.5> #2 #3 <other> #4 #5"),
    ],
)
def test_only_the_newest_items_are_written(limit: int, expected: str) -> None:
    assert read(prompter(history_limit=limit).prefix(HISTORY)) == expected


def test_titles_stand_before_the_tokens_where_asked_for() -> None:
    written = read(prompter(history="both").prefix(HISTORY))
    assert written == "history: <view> dark bread #0 #1 <rate 4.5> red wine #2 #3 <other> #4 #5"
    asked = prompter(candidates="both")
    assert read(asked.branch("wine", slot=3)) == "candidate: red wine #2 #3 e3 choose?"
    assert read(asked.branch("cheese", slot=0)) == "candidate: #4 #5 e0 choose?"
    assert read(asked.prefix(HISTORY[:1])) == "history: <view> #2 #3"


@pytest.mark.parametrize(
    ("written", "red_wine", "cheese"),
    [
        ("tokens", "#2 #3", "#4 #5"),
        ("titles", "red wine", "untitled"),
        ("both", "red wine #2 #3", "#4 #5"),
    ],
)
@pytest.mark.parametrize("other", ["tokens", "titles", "both"])
def test_history_and_candidates_are_each_written_as_asked(
    written: str, red_wine: str, cheese: str, other: str
) -> None:
    asked = prompter(history=written, candidates=other)
    expected = f"history: <rate 4.5> {red_wine} <other> {cheese}"
    assert read(asked.prefix(HISTORY[3:])) == expected
    asked = prompter(history=other, candidates=written)
    assert read(asked.branch("wine", slot=3)) == f"candidate: {red_wine} e3 choose?"
    assert read(asked.branch("cheese", slot=0)) == f"candidate: {cheese} e0 choose?"


@pytest.mark.parametrize("title", ["", "   "])
def test_what_stands_for_an_item_is_never_nothing(title: str) -> None:
    asked = replace(prompter(candidates="titles"), titles={"wine": title})
    assert read(asked.branch("wine", slot=0)) == "candidate: untitled e0 choose?"


def test_without_evidence_there_is_no_token_for_it() -> None:
    assert read(prompter().branch("wine", slot=None)) == "candidate: #2 #3 choose?"


@pytest.mark.parametrize(
    ("behavior", "written"),
    [("view", "<view>"), ("rate", "<rate>"), ("buy", "<other>"), (None, "<other>")],
)
def test_the_behavior_that_is_asked_about_stands_before_the_question(
    behavior: str | None, written: str
) -> None:
    asked = prompter(asks_behavior=True)
    found = read(asked.branch("wine", slot=3, behavior=behavior))
    assert found == f"candidate: #2 #3 e3 {written} choose?"
    found = read(asked.branch("wine", slot=None, behavior=behavior))
    assert found == f"candidate: #2 #3 {written} choose?"
    assert read(asked.prefix(HISTORY[:1])) == "history: <view> #2 #3", "all questions share it"


def test_a_behavior_is_asked_about_only_where_the_configuration_says_so() -> None:
    found = read(prompter().branch("wine", slot=3, behavior="view"))
    assert found == "candidate: #2 #3 e3 choose?"


def test_a_long_title_is_cut() -> None:
    asked = prompter(candidates="both", title_tokens=1)
    assert read(asked.branch("wine", slot=0)) == "candidate: red #2 #3 e0 choose?"


@pytest.mark.parametrize(
    ("weight", "written"), [(4.5, "<rate 4.5>"), (4.0, "<rate>"), (None, "<rate>")]
)
def test_a_weight_without_a_label_is_written_as_its_behavior(
    weight: float | None, written: str
) -> None:
    event = Interaction(item_id="bread", behavior="rate", weight=weight)
    assert read(prompter().prefix([event])) == f"history: {written} #0 #1"


def test_equal_histories_give_equal_codes() -> None:
    again = [replace(event) for event in HISTORY]
    assert prompter().prefix(HISTORY).tolist() == prompter().prefix(again).tolist()


def test_a_label_is_the_behavior_with_its_weight() -> None:
    assert label("rate", 4.5) == "rate 4.5"
    assert label("rate", 4.0) == "rate 4"
    assert label("view", None) == label("view", float("nan")) == "view"


def test_the_vocabulary_has_each_behavior_with_and_without_its_weights() -> None:
    events = [
        Interaction(item_id="a", behavior="rate", weight=weight) for weight in (5.0, 4.5, 4.5)
    ]
    events.append(Interaction(item_id="a", behavior="view"))
    assert vocabulary(events) == (OTHER, "rate", "rate 4.5", "rate 5", "view")
    assert vocabulary([]) == (OTHER,)


def test_the_vocabulary_has_what_is_asked_about() -> None:
    events = [Interaction(item_id="a", behavior="view")]
    assert vocabulary(events, asked=["view", "buy", "other"]) == (OTHER, "buy", "view")


def test_a_behavior_of_many_weights_is_named_without_them() -> None:
    seconds = [Interaction(item_id="a", behavior="watch", weight=n / 7) for n in range(13)]
    assert vocabulary(seconds) == (OTHER, "watch")


def test_weights_that_are_no_numbers_are_one_weight_that_is_absent() -> None:
    weights = [float("nan") for _ in range(20)] + [4.5]
    events = [Interaction(item_id="a", behavior="rate", weight=weight) for weight in weights]
    assert vocabulary(events) == (OTHER, "rate", "rate 4.5")


def test_a_behavior_that_is_called_other_is_not_named_twice() -> None:
    assert vocabulary([Interaction(item_id="a", behavior="other")]) == (OTHER,)
