"""TLS, tokens and addresses: who is trusted, who is told a secret, and what is refused."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from ranker import channels
from ranker.client import AsyncRankerClient, ClientTls, RankerClient, RankerError
from ranker.limits import ServerConfig
from ranker.service.callers import Caller
from ranker.service.server import running
from tests.ranker.certificates import Authority, encrypted, write
from tests.ranker.serving_world import TableServing

TIMEOUT_S = 10.0
TOKEN = "correct-horse-battery-staple"
AUTHORITY = Authority()
ISSUED = AUTHORITY.issue("ranker")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.pem)
    return path


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    chain, key = write(tmp_path, ISSUED)
    return ServerConfig(port=0, tls_certificate=chain, tls_key=key)


def test_a_client_that_trusts_the_authority_is_answered(config: ServerConfig, ca: Path) -> None:
    async def ask(address: str) -> str:
        async with AsyncRankerClient(address, timeout_s=TIMEOUT_S, tls=ClientTls(ca=ca)) as client:
            return (await client.info()).generation_id

    with running(TableServing(), config=config) as server:
        with RankerClient(server.address, timeout_s=TIMEOUT_S, tls=ClientTls(ca=ca)) as client:
            assert client.info().generation_id == "g1"
        assert asyncio.run(ask(server.address)) == "g1"


def test_a_server_of_another_authority_is_not_believed(
    config: ServerConfig, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("another").pem)
    with (
        running(TableServing(), config=config) as server,
        RankerClient(server.address, timeout_s=TIMEOUT_S, tls=ClientTls(ca=other)) as client,
        pytest.raises(RankerError, match="UNAVAILABLE"),
    ):
        client.info()


def test_a_client_shows_itself_where_it_must(
    config: ServerConfig, ca: Path, tmp_path: Path
) -> None:
    mutual = ServerConfig(
        port=0,
        tls_certificate=config.tls_certificate,
        tls_key=config.tls_key,
        tls_client_ca=ca,
    )
    own = tmp_path / "own"
    own.mkdir()
    chain, key = write(own, AUTHORITY.issue("shop"))
    tls = ClientTls(ca=ca, certificate=chain, key=key)
    with running(TableServing(), config=mutual) as server:
        with RankerClient(server.address, timeout_s=TIMEOUT_S, tls=tls) as client:
            assert client.info().generation_id == "g1"
        with (
            RankerClient(server.address, timeout_s=TIMEOUT_S, tls=ClientTls(ca=ca)) as client,
            pytest.raises(RankerError, match="UNAVAILABLE"),
        ):
            client.info()


def test_a_token_opens_what_is_closed_without(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    callers = tmp_path / "callers.jsonl"
    callers.write_text(Caller(name="shop", sha256=digest).line + "\n")
    with running(TableServing(), config=ServerConfig(port=0, callers=callers)) as server:
        with RankerClient(server.address, timeout_s=TIMEOUT_S, token=TOKEN) as client:
            assert client.rerank(["a"], user_id="ada").items
            assert list(client.stream_rerank(["a"], user_id="ada"))
        for token in (None, TOKEN[:-1]):
            with (
                RankerClient(server.address, timeout_s=TIMEOUT_S, token=token) as client,
                pytest.raises(RankerError) as refused,
            ):
                client.info()
            assert refused.value.reason == "UNAUTHENTICATED"
            assert TOKEN[:-1] not in str(refused.value)


def test_a_token_stays_within_the_machine_unless_it_is_encrypted_or_said(ca: Path) -> None:
    away = "ranker.example:50051"
    with pytest.raises(ValueError, match="the token would travel to ranker") as told:
        RankerClient(away, token=TOKEN)
    assert TOKEN not in str(told.value)
    with RankerClient(away, token=TOKEN, tls=ClientTls(ca=ca)) as client:
        assert TOKEN not in repr(client)
    RankerClient(away, token=TOKEN, insecure=True).close()
    RankerClient(away).close()


@pytest.mark.parametrize("token", ["", "two words", "tab\t", "new\nline", "ümlaut"])
def test_what_cannot_be_a_token_is_refused_unquoted(token: str) -> None:
    with pytest.raises(ValueError, match="one word of printable ASCII") as told:
        RankerClient("127.0.0.1:1", token=token)
    assert not token or token not in str(told.value)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.0.1:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("ipv6:[::1]:50051", True),
        ("ipv4:127.0.0.1:80", True),
        ("dns:///localhost:50051", True),
        ("unix:/run/ranker.sock", True),
        ("10.0.0.1:50051", False),
        ("[fe80::1]:50051", False),
        ("localhost.example:50051", False),
        ("127.0.0.1.example:50051", False),
        ("dns://127.0.0.1/ranker.example:50051", False),
        ("ranker", False),
    ],
)
def test_this_machine_is_told_from_others(address: str, is_local: bool) -> None:
    assert channels.is_local(address) is is_local


@pytest.mark.parametrize("written", [None, b"no certificate"])
def test_a_file_that_is_no_certificate_is_named(written: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if written is not None:
        path.write_bytes(written)
    with pytest.raises(ValueError, match="cannot be used") as told:
        RankerClient("127.0.0.1:1", tls=ClientTls(ca=path))
    assert str(path) in str(told.value)


def test_a_certificate_and_its_own_open_key_belong_together(ca: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong together"):
        ClientTls(certificate=ca)
    chain, key = write(tmp_path, (ISSUED[0], encrypted(ISSUED[1], b"password")))
    with pytest.raises(ValueError, match="unencrypted key"):
        ClientTls(ca=ca, certificate=chain, key=key).credentials()
    chain, key = write(tmp_path, (ISSUED[0], AUTHORITY.issue("another")[1]))
    with pytest.raises(ValueError, match="cannot be used"):
        ClientTls(ca=ca, certificate=chain, key=key).credentials()


def test_only_unavailable_is_tried_again() -> None:
    (config,) = channels.SERVICE_CONFIG["methodConfig"]
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]  # type: ignore[index]
    assert json.dumps(channels.SERVICE_CONFIG)
