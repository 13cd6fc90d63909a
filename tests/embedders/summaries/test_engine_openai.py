"""The writer of a server's texts, against a real server on the loopback that misbehaves at will."""

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import soundfile

from embedders.items import Modality
from embedders.summaries.base import Prompt, Unanswered, Unwritten
from embedders.summaries.bounded_http import LIMIT_BYTES
from embedders.summaries.config import WriterConfig
from embedders.summaries.engine_openai import OpenAiWriter
from embedders.texts import MAX_CHARACTERS
from tests.embedders import tiny
from tests.embedders.summaries.fake_endpoint import (
    Asked,
    FakeEndpoint,
    Reply,
    completion,
    failure,
    is_plain,
    models,
)
from tests.embedders.summaries.hostile import TITLES

KEY = "sk-this-is-never-seen"


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as running:
        yield running


def writer(endpoint: FakeEndpoint, *, key: str | None = None, **settings: Any) -> OpenAiWriter:
    given = {"retries": 1, "timeout_s": 20.0, "concurrency": 4, **settings}
    config = WriterConfig(engine="openai", model="m", url=endpoint.url, **given)
    return OpenAiWriter(config, key=key)


def prompt(text: str, **given: Any) -> Prompt:
    return Prompt(instruction="Summarize.", text=text, **given)


def picture(folder: Path) -> Path:
    path = folder / "a.png"
    tiny.picture(1).save(path)
    return path


def odd(reply: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """A server that fails on one prompt alone, each time."""
    return lambda asked: reply(asked) if asked.text == "odd" else completion(asked.text.upper())


def write(endpoint: FakeEndpoint, *texts: str, **settings: Any) -> list[str | Unwritten]:
    with closing(writer(endpoint, **settings)) as opened:
        return opened.write([prompt(text) for text in texts])


def test_answers_stand_in_their_prompts_order_whoever_was_quick(endpoint: FakeEndpoint) -> None:
    late = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.text == "first":
            late.wait(30)
        elif asked.text == "last":
            late.set()
        return completion(f"  {asked.text.upper()}\n")

    endpoint.answer = answer
    assert write(endpoint, "first", "second", "last") == ["FIRST", "SECOND", "LAST"]


def test_no_more_prompts_are_asked_at_once_than_allowed(endpoint: FakeEndpoint) -> None:
    meeting = threading.Barrier(3)  # nobody passes before three are there

    def answer(asked: Asked) -> Reply:
        if not is_plain(asked):
            meeting.wait(30)
            endpoint.closing.wait(0.1)  # a fourth would come in the meantime
        return completion("x")

    endpoint.answer = answer
    assert write(endpoint, *map(str, range(12)), concurrency=3) == ["x"] * 12
    assert endpoint.most_at_once == 3


def test_a_request_holds_what_the_settings_say(endpoint: FakeEndpoint) -> None:
    with closing(writer(endpoint, temperature=0.5, seed=7)) as opened:
        opened.write([prompt("wine", max_tokens=12)])
    (asked,) = endpoint.prompts
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Summarize."},
            {"role": "user", "content": "wine"},
        ],
        "max_tokens": 12,
        "n": 1,
        "seed": 7,
        "temperature": 0.5,
    }


@pytest.mark.parametrize("name", TITLES)
def test_hostile_words_arrive_as_they_are_or_not_at_all(endpoint: FakeEndpoint, name: str) -> None:
    (answer,) = write(endpoint, TITLES[name])
    if name == "surrogate":
        assert isinstance(answer, Unwritten)
        assert not endpoint.prompts
        return
    (asked,) = endpoint.prompts
    assert asked.body["messages"] == [
        {"role": "system", "content": "Summarize."},
        {"role": "user", "content": TITLES[name]},
    ]


def test_a_template_without_a_systems_turn_gets_the_instruction_before_the_text(
    endpoint: FakeEndpoint,
) -> None:
    with closing(writer(endpoint)) as opened:
        revision = opened.revision

    def answer(asked: Asked) -> Reply:
        if asked.body["messages"][0]["role"] == "system":
            return failure(400, "Only user and assistant roles are supported!")
        return completion("x")

    endpoint.answer = answer
    with closing(writer(endpoint)) as opened:
        assert opened.write([prompt("wine")]) == ["x"]
        assert opened.revision != revision
    messages = endpoint.prompts[-1].body["messages"]
    assert messages == [{"role": "user", "content": "Summarize.\n\nwine"}]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_busy_or_broken_server_is_asked_again(endpoint: FakeEndpoint, status: int) -> None:
    endpoint.answer = lambda asked: (
        failure(status) if asked.text == "wine" and not asked.num_before else completion("x")
    )
    with closing(writer(endpoint)) as opened:
        assert opened.write([prompt("wine")]) == ["x"]
        assert opened.usage.num_retries == 1


def test_a_lost_connection_is_made_again(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda asked: (
        Reply(is_dropped=True) if asked.text == "wine" and not asked.num_before else completion("x")
    )
    assert write(endpoint, "wine") == ["x"]


def test_a_connection_that_an_odd_prompt_cost_is_not_taken_for_a_server_that_is_gone(
    endpoint: FakeEndpoint,
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.text == "odd":
            return failure(500)
        is_first = is_plain(asked) and len(endpoint.prompts) == 1 and asked.num_before == 1
        return Reply(is_dropped=True) if is_first else completion("x")

    endpoint.answer = answer
    (unwritten,) = write(endpoint, "odd", retries=0)
    assert isinstance(unwritten, Unwritten)
    assert [is_plain(asked) for asked in endpoint.asked[1:]] == [True, False, True, True]


def test_a_server_is_left_alone_for_as_long_as_it_says(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda asked: (
        failure(429, retry_after="1.2")
        if asked.text == "wine" and not asked.num_before
        else completion("x")
    )
    assert write(endpoint, "wine") == ["x"]
    first, second = endpoint.prompts
    assert second.at - first.at > 1.0  # half a second, had it not said so


def test_a_prompt_that_is_refused_is_not_asked_again_and_costs_no_other(
    endpoint: FakeEndpoint,
) -> None:
    endpoint.answer = odd(lambda asked: failure(400, "too \x1b[31m long\n" + "x" * 5_000))
    first, refused, last = write(endpoint, "one", "odd", "two")
    assert (first, last) == ("ONE", "TWO")
    assert isinstance(refused, Unwritten)
    assert "400: too [31m long xxx" in str(refused)
    assert len(str(refused)) < 500
    assert sorted(asked.text for asked in endpoint.prompts) == ["odd", "one", "two"]


ODDITIES: dict[str, tuple[Callable[[Asked], Reply], str]] = {
    "fails": (lambda asked: failure(500, "worker died"), "500: worker died"),
    "drops": (lambda asked: Reply(is_dropped=True), "RemoteProtocolError"),
    "hangs": (lambda asked: Reply(is_silent=True), "no answer within timeout_s = 2"),
    "trickles": (lambda asked: Reply(body=b" " * 60, pause_s=0.1), "no answer within"),
    "garbles": (lambda asked: Reply(body=b'{"choices": [{"mess'), "no chat completion"),
    "chats": (lambda asked: Reply(body=b"<html>Welcome</html>"), "no chat completion"),
    "omits": (lambda asked: Reply(body=b'{"choices": []}'), "no chat completion"),
    "halves characters": (
        lambda asked: Reply(body=b'{"choices": [{"message": {"content": "\\ud83c"}}]}'),
        "no chat completion",
    ),
    "never ends": (lambda asked: Reply(body=b" " * (LIMIT_BYTES + 1)), "more than 4,194,304 bytes"),
    "is a bomb": (
        lambda asked: Reply(
            body=gzip.compress(b" " * 10_000_000), headers={"content-encoding": "gzip"}
        ),
        "compressed (gzip)",
    ),
    "is empty": (lambda asked: completion(" \n"), "empty"),
    "says nothing": (lambda asked: completion(None), "empty"),
    "thinks": (lambda asked: completion("<think>Let me", finish="length"), "max_tokens were over"),
    "thinks apart": (lambda asked: completion("", finish="length"), "max_tokens were over"),
    "filters": (lambda asked: completion("wi", finish="content_filter"), "filter"),
    "refuses": (lambda asked: completion(None, refusal="I do not drink."), "I do not drink."),
    "rambles": (lambda asked: completion("x" * (MAX_CHARACTERS + 1)), "does not heed max_tokens"),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_a_prompt_on_which_the_server_fails_each_time_costs_no_other(
    endpoint: FakeEndpoint, name: str
) -> None:
    reply, words = ODDITIES[name]
    endpoint.answer = odd(reply)
    first, unwritten, last = write(endpoint, "one", "odd", "two", retries=0, timeout_s=2)
    assert (first, last) == ("ONE", "TWO")
    assert isinstance(unwritten, Unwritten)
    assert words in str(unwritten)


def test_thoughts_said_aloud_are_no_part_of_an_answer(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda asked: completion("<think>Wine?</think>\n\nRed wine.")
    assert write(endpoint, "wine") == ["Red wine."]


def test_an_answer_cut_at_its_bound_is_an_answer(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda asked: completion("Red wi", finish="length")
    assert write(endpoint, "wine") == ["Red wi"]


@pytest.mark.parametrize(
    "reply",
    [
        failure(401, "Incorrect API key provided"),
        failure(404, "The model `m` does not exist"),
        failure(429, "slow down"),
        failure(503, "loading"),
        failure(500, "out of memory"),
        Reply(body=b"<html>Log in</html>"),
    ],
    ids=lambda reply: reply.status,
)
def test_a_server_that_fails_on_everything_ends_the_batch_and_nothing_is_lost(
    endpoint: FakeEndpoint, reply: Reply
) -> None:
    endpoint.answer = lambda asked: completion(asked.text.upper())
    with closing(writer(endpoint, concurrency=1)) as opened:
        fine = opened.write([prompt("a")])
        endpoint.answer = lambda asked: (
            completion(asked.text.upper()) if asked.text in ("a", "b") else reply
        )
        with pytest.raises(Unanswered, match="does not answer") as raised:
            opened.write([prompt(text) for text in "abcdefgh"])
    assert fine == ["A"]
    assert raised.value.answers == ("A", "B", None, None, None, None, None, None)
    assert {asked.text for asked in endpoint.prompts} <= set("abcd")  # the others are not asked


def test_whatever_is_being_answered_when_a_server_fails_is_kept(endpoint: FakeEndpoint) -> None:
    failed = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.text == "slow":
            failed.wait(30)
        elif asked.text == "busy":
            threading.Timer(0.2, failed.set).start()
            return failure(503)
        return completion(asked.text.upper())

    endpoint.answer = answer
    with pytest.raises(Unanswered) as raised:
        write(endpoint, "slow", "busy", retries=0)
    assert raised.value.answers == ("SLOW", None)


def test_a_server_that_stops_is_told_from_a_prompt_that_it_dislikes(endpoint: FakeEndpoint) -> None:
    with closing(writer(endpoint, retries=0)) as opened:
        endpoint.stop()
        with pytest.raises(Unanswered, match="ConnectError") as raised:
            opened.write([prompt("wine")])
    assert raised.value.answers == (None,)


@pytest.mark.parametrize("is_listed", [True, False])
def test_nobody_there_is_said_at_once(endpoint: FakeEndpoint, is_listed: bool) -> None:
    if is_listed:
        endpoint.answer = lambda asked: failure(404, "no such model")
    else:
        endpoint.stop()
    words = "no such model" if is_listed else "does not say what it serves: ConnectError"
    with pytest.raises(Unanswered, match=words) as raised:
        writer(endpoint, retries=0)
    assert raised.value.answers == ()


def test_files_are_shown_before_the_text(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, tiny.sound(1, seconds=1.0), 16_000)
    with closing(writer(endpoint, shows=("image", "audio"))) as opened:
        assert opened.reads == {Modality.IMAGE, Modality.AUDIO}
        opened.write([prompt("wine", images=(picture(tmp_path),), sounds=(sound,))])
    content = endpoint.prompts[0].body["messages"][1]["content"]
    assert [part["type"] for part in content] == ["image_url", "input_audio", "text"]


def test_a_damaged_picture_costs_no_other_prompt(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    damaged = tmp_path / "a.png"
    damaged.write_bytes(b"no picture")
    with closing(writer(endpoint)) as opened:
        bad, good = opened.write([prompt("a", images=(damaged,)), prompt("b")])
    assert isinstance(bad, Unwritten)
    assert str(damaged) in str(bad)
    assert good == "B"


def test_a_server_that_sees_nothing_is_said_to(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if isinstance(asked.body["messages"][-1]["content"], str):
            return completion("x")
        return failure(400, "m is not a multimodal model")

    endpoint.answer = answer
    with (
        closing(writer(endpoint)) as opened,
        pytest.raises(Unanswered, match=r"multimodal model; .* out of the writer's `shows`"),
    ):
        opened.write([prompt("wine", images=(picture(tmp_path),))])


def test_a_server_that_leaves_pictures_out_without_a_word_is_found_out(
    endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    with closing(writer(endpoint)) as opened:
        endpoint.num_tokens_of_files = 0
        with pytest.raises(ValueError, match="as many tokens with image as without"):
            opened.write([prompt("wine", images=(picture(tmp_path),))])
        assert opened.write([prompt("wine")]) == ["WINE"]
    assert len(endpoint.prompts) == 1


def test_a_picture_for_a_writer_that_is_shown_none_is_an_error(
    endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    with (
        closing(writer(endpoint, shows=())) as opened,
        pytest.raises(ValueError, match="add it to the writer's `shows`"),
    ):
        opened.write([prompt("a"), prompt("b", images=(picture(tmp_path),))])
    assert not endpoint.prompts


def test_the_key_is_sent_and_never_seen(
    endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(asked: Asked) -> Reply:
        said = asked.headers["authorization"]
        if asked.text == "odd":
            return failure(400, f"you sent {said}")
        return failure(401, said) if asked.text == "denied" or refused else completion("x")

    refused: list[bool] = []
    endpoint.answer = answer
    caplog.set_level(logging.DEBUG)
    with closing(writer(endpoint, key=KEY, concurrency=1)) as opened:
        _, unwritten = opened.write([prompt("a"), prompt("odd")])
        refused.append(True)
        with pytest.raises(Unanswered) as raised:
            opened.write([prompt("denied")])
        seen = [repr(opened), opened.revision, repr(opened.__dict__), str(unwritten)]
    assert {asked.headers["authorization"] for asked in endpoint.asked} == {f"Bearer {KEY}"}
    assert "you sent Bearer [the key]" in str(unwritten)
    assert "[the key]" in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        seen.append(repr(error))
        error = error.__cause__ or error.__context__
    assert caplog.text
    assert not [text for text in (*seen, caplog.text) if KEY in text]


def test_nothing_of_the_environment_is_sent(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer secret\nX-Mine: secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/secret")
    assert write(endpoint, "wine") == ["WINE"]
    for asked in endpoint.asked:
        assert "secret" not in str(asked)
        assert "authorization" not in asked.headers


def test_an_address_that_points_elsewhere_is_not_followed(endpoint: FakeEndpoint) -> None:
    with FakeEndpoint() as elsewhere:
        moved = {"location": f"{elsewhere.url}/chat/completions"}
        endpoint.answer = odd(lambda asked: Reply(status=307, headers=moved))
        (unwritten,) = write(endpoint, "odd", key=KEY)
        assert isinstance(unwritten, Unwritten)
        assert "307" in str(unwritten)
        assert not elsewhere.asked


def test_the_revision_says_what_the_server_does_and_the_settings(endpoint: FakeEndpoint) -> None:
    def revision(**settings: Any) -> str:
        with closing(writer(endpoint, **settings)) as opened:
            return opened.revision

    plain = revision()
    assert plain.startswith("served-")
    assert revision(seed=3, concurrency=1) == plain  # of the likeliest token a seed says nothing
    endpoint.listing = models({"id": "other"}, {"id": "m", "created": 2, "permission": [{"id": 3}]})
    assert revision() == plain  # when it was asked is not which model it is
    others = [revision(revision="of-may"), revision(temperature=0.5), revision(shows=())]
    others.append(revision(temperature=0.5, seed=1))
    endpoint.listing = models({"id": "m", "root": "/models/m-2"})
    others.append(revision())
    assert len({plain, *others}) == 6
    assert others[0].startswith("of-may-")


@pytest.mark.parametrize(
    "listing",
    [models(), models({"id": "x"}), failure(404), failure(405), Reply(body=b"<html>")],
    ids=["empty", "others", "none", "not allowed", "garbage"],
)
def test_a_server_need_not_say_what_it_serves(endpoint: FakeEndpoint, listing: Reply) -> None:
    endpoint.listing = listing
    with closing(writer(endpoint)) as opened:
        nothing_said = opened.revision
        assert opened.write([prompt("wine")]) == ["WINE"]
    endpoint.listing = models()
    with closing(writer(endpoint)) as opened:
        assert opened.revision == nothing_said


def test_a_list_that_fails_for_a_while_does_not_make_another_model(endpoint: FakeEndpoint) -> None:
    endpoint.listing = failure(500, "database down")
    with pytest.raises(Unanswered, match="does not say what it serves: 500: database down"):
        writer(endpoint)


def test_tokens_retries_and_cost_are_counted(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda asked: (
        failure(500) if asked.text == "b" and not asked.num_before else completion("x")
    )
    with closing(writer(endpoint, input_price=2.0, output_price=10.0)) as opened:
        opened.write([prompt(text) for text in "abc"])
        usage = opened.usage
        # The writer's own question is paid for, too.
        assert (usage.num_prompts, usage.input_tokens, usage.output_tokens) == (3, 12, 8)
        assert usage.num_retries == 1
        assert opened.cost == pytest.approx((12 * 2.0 + 8 * 10.0) / 1e6)
    with closing(writer(endpoint)) as opened:
        assert opened.cost is None
    with closing(writer(endpoint, output_price=10.0)) as opened:
        assert opened.cost == pytest.approx(2 * 10.0 / 1e6)


def test_a_server_that_counts_no_tokens_is_one_all_the_same(endpoint: FakeEndpoint) -> None:
    body = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": None}).encode()
    endpoint.answer = lambda asked: Reply(body=body)
    with closing(writer(endpoint)) as opened:
        assert opened.write([prompt("wine")]) == ["x"]
        assert opened.usage.input_tokens == 0


def test_progress_counts_every_answer(endpoint: FakeEndpoint) -> None:
    seen: list[int] = []
    endpoint.answer = odd(lambda asked: failure(400))
    with closing(writer(endpoint)) as opened:
        opened.write([prompt(text) for text in ("a", "odd", "b")], on_progress=seen.append)
        assert opened.write([]) == []
    assert seen == [1, 2, 3]


def test_an_interruption_asks_nothing_more(endpoint: FakeEndpoint) -> None:
    def interrupt(num_answered: int) -> None:
        raise KeyboardInterrupt

    with closing(writer(endpoint, concurrency=1)) as opened:
        with pytest.raises(KeyboardInterrupt):
            opened.write([prompt(str(n)) for n in range(200)], on_progress=interrupt)
        num_asked = len(endpoint.prompts)
        assert opened.write([prompt("wine")]) == ["WINE"]
    assert num_asked < 200


def test_a_closed_writer_says_so(endpoint: FakeEndpoint) -> None:
    opened = writer(endpoint)
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.write([prompt("wine")])
