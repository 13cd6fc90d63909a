"""The questions' commands against a real server: every option arrives, every refusal is told."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedders.items import Interaction
from ranker.limits import ServerConfig
from ranker.service.callers import Caller
from ranker.service.server import RankerServer, running
from retrieval.filters import Filter
from tests.ranker.certificates import Authority, write
from tests.ranker.serving_world import TableServing
from tests.sommelier.conftest import Run

TOKEN = "correct-horse-battery-staple"
WISHES = (
    *("--filter", "price<=4", "--filter", "kind=vowel|consonant", "--deny", "b,zz"),
    *("--weight", "text=2", "--recent", "view=a", "--recent", "cart=b"),
    *("--text", "a guest", "--behavior", "purchase", "--timeout", "10"),
)


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving) as started:
        yield started


@pytest.mark.parametrize("words", [("recommend",), ("rerank", "--items", "a,b,e")])
def test_every_wish_reaches_the_server(
    words: tuple[str, ...], run: Run, server: RankerServer, serving: TableServing
) -> None:
    result = run(*words, "--user", "ada", "--server", server.address, *WISHES)
    assert result.exit_code == 0, result.stderr
    (query,) = serving.reranked
    assert query.filters == Filter.parse(["price<=4", "kind=vowel|consonant"], deny=["b", "zz"])
    assert query.weights == {"text": 2.0}
    assert (query.text, query.behavior) == ("a guest", "purchase")
    assert query.recent == (
        Interaction(item_id="a", behavior="view", position=0),
        Interaction(item_id="b", behavior="cart", position=1),
    )


def test_what_a_filter_excludes_says_so(run: Run, server: RankerServer) -> None:
    words = ("--user", "ada", "--items", "a,b", "--deny", "b", "--server", server.address)
    result = run("rerank", *words)
    assert "filtered" in next(line for line in result.output.splitlines() if "b " in line)


def test_every_order_on_the_way_is_shown_when_asked_for(run: Run, server: RankerServer) -> None:
    words = ("rerank", "--user", "ada", "--items", "a,b,c,d,e", "--server", server.address)
    assert run(*words).output.count("For ada") == 1
    streamed = run(*words, "--stream").output
    assert streamed.count("For ada") == 4
    assert streamed.count("better ones follow") == 3
    assert "judged by retrieval_order" in streamed


def test_a_fault_names_its_field(run: Run, server: RankerServer) -> None:
    result = run("recommend", "--user", "ada", "--server", server.address, "--weight", "audio=1")
    assert result.exit_code == 1
    assert "weights['audio']: no such block" in result.stderr


def test_items_are_needed(run: Run, server: RankerServer) -> None:
    result = run("rerank", "--user", "ada", "--items", " ,", "--server", server.address)
    assert result.exit_code == 1
    assert "--items names none" in result.stderr


def test_a_closed_server_opens_with_certificate_and_token(run: Run, tmp_path: Path) -> None:
    authority = Authority()
    chain, key = write(tmp_path, authority.issue("ranker"))
    ca, token, callers = tmp_path / "ca.pem", tmp_path / "token", tmp_path / "callers.jsonl"
    ca.write_bytes(authority.pem)
    token.write_text(TOKEN + "\n")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    callers.write_text(Caller(name="shop", sha256=digest).line + "\n")
    config = ServerConfig(port=0, tls_certificate=chain, tls_key=key, callers=callers)
    with running(TableServing(), config=config) as server:
        words = ("recommend", "--user", "ada", "--server", server.address)
        opened = run(*words, "--tls-ca", ca, "--token-file", token)
        assert opened.exit_code == 0, opened.stderr
        closed = run(*words, "--tls-ca", ca)
    assert closed.exit_code == 1
    assert "UNAUTHENTICATED" in closed.stderr
    assert TOKEN not in opened.output + closed.stderr


def test_a_token_does_not_leave_the_machine_unencrypted(run: Run, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    words = ("recommend", "--user", "ada", "--server", "ranker.example:1", "--token-file", token)
    result = run(*words)
    assert result.exit_code == 1
    assert "the token would travel to ranker.example:1" in " ".join(result.stderr.split())
    assert TOKEN not in result.stderr
