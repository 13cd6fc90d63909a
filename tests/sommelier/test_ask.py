"""An answer's lines say how far each item moved."""

from dataclasses import replace
from pathlib import Path

import pytest

from ranker.ranking import Explanation, Status
from retrieval.filters import Filter
from sommelier.ask import asked, token_in
from sommelier.replies import Line, Reply, reasons, summary


def line(rank: int, retrieval_rank: int, status: Status = Status.OK) -> Line:
    return Line(
        item_id="a",
        title="[Red]",
        rank=rank,
        score=1.0,
        retrieval_rank=retrieval_rank,
        retrieval_score=0.5,
        status=status,
    )


@pytest.mark.parametrize(
    ("rank", "retrieval_rank", "move"),
    [(1, 4, "▲3"), (5, 2, "▼3"), (2, 2, ""), (0, 3, ""), (3, 0, "")],
)
def test_a_move_is_counted_in_places(rank: int, retrieval_rank: int, move: str) -> None:
    assert line(rank, retrieval_rank).move == move


def test_a_reply_is_a_table_that_says_who_judged() -> None:
    reply = Reply(
        user_id="ann",
        generation_id="g-1",
        judged_by="llm",
        lines=(line(1, 2), line(0, 0, Status.UNKNOWN_ITEM)),
        source="this process",
    )
    shown = summary(reply)
    assert shown.rows[0] == ("1", "a", "[Red]", "1.000", "2", "▲1", "")
    assert shown.rows[1] == ("-", "a", "[Red]", "", "-", "", "unknown item")
    assert shown.notes == ("generation g-1, judged by llm, from this process",)


def test_a_chance_is_told_where_it_is_known() -> None:
    known = replace(line(1, 2), probability=0.125)
    reply = Reply(
        user_id="ann",
        generation_id="g-1",
        judged_by="llm",
        lines=(known, line(0, 0, Status.UNKNOWN_ITEM)),
        source="this process",
    )
    shown = summary(reply)
    assert shown.header[3:5] == ("score", "chance")
    assert shown.rows[0][4] == "12.5%"
    assert shown.rows[1][4] == ""


def test_reasons_are_numbers_with_bars_to_one_scale() -> None:
    first = Explanation(base=-1.0, contributions={"text": 2.0, "graph": -0.5, "audio": 0.0})
    second = Explanation(base=0.5, contributions={"text": 0.5, "graph": 0.0, "audio": 0.0})
    reply = Reply(
        user_id="ann",
        generation_id="g-1",
        judged_by="llm",
        lines=(
            replace(line(1, 2), score=0.5, explanation=first),
            replace(line(2, 1), score=1.0, title="", explanation=second),
            line(0, 0, Status.UNKNOWN_ITEM),
        ),
        source="this process",
    )
    shown = reasons(reply)
    assert shown.header == ("rank", "item", "without vectors", "audio", "graph", "text", "score")
    assert shown.rows == (
        ("1", "[Red]", "-1.000", "", "-0.500 ░░", "+2.000 ████████", "+0.500"),
        ("2", "a", "+0.500", "", "", "+0.500 ██", "+1.000"),
    )


def test_words_of_the_command_line_become_a_query() -> None:
    query = asked(
        "ann",
        conditions=["price<=20", "kind=duo|trio"],
        deny=["a"],
        weights=["text=0.5", "graph=2"],
        behavior="purchase",
    )
    assert query.user_id == "ann"
    assert query.filters == Filter.parse(["price<=20", "kind=duo|trio"], deny=["a"])
    assert query.weights == {"text": 0.5, "graph": 2.0}
    assert query.behavior == "purchase"
    plain = asked("ann")
    assert (plain.filters, plain.weights, plain.behavior, plain.text) == (None,) * 4


def test_recent_events_keep_their_order() -> None:
    query = asked("ann", recent=["view=a=b", "cart = c"], text="a guest")
    assert [(one.behavior, one.item_id) for one in query.recent] == [("view", "a=b"), ("cart", "c")]
    assert query.text == "a guest"


@pytest.mark.parametrize("word", ["view", "=a", "view="])
def test_an_event_without_its_item_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"--recent {word}: expected what was done"):
        asked("ann", recent=[word])


def test_a_token_is_what_its_file_holds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert token_in(tmp_path / "token") == "secret"
    with pytest.raises(ValueError, match="--token-file"):
        token_in(tmp_path / "none")


def test_an_answer_that_is_not_what_it_could_be_says_so() -> None:
    reply = Reply(
        user_id="ann",
        generation_id="g-1",
        judged_by="llm",
        lines=(line(1, 2),),
        source="this process",
    )
    assert len(summary(reply).notes) == 1
    assert "better ones follow" in summary(replace(reply, is_final=False)).notes[1]
    assert "time ran out" in summary(replace(reply, is_degraded=True)).notes[1]


@pytest.mark.parametrize("word", ["text", "text=much"])
def test_a_weight_that_is_no_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"--weight {word}: expected a block's name"):
        asked("ann", weights=[word])
