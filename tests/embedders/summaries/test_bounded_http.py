"""Where a key may be sent, and what is taken for an answer."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from embedders.summaries.bounded_http import LIMIT_BYTES, Unread, check_address, open_client
from tests.embedders.summaries.fake_endpoint import FakeEndpoint, Reply
from tests.ranker import certificates

KEY = "sk-this-is-never-seen"


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example/v1",
        "http://localhost:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_a_key_travels_encrypted_or_stays_here(url: str) -> None:
    check_address(url, key=KEY, insecure=False)


@pytest.mark.parametrize(
    "url", ["http://models.example/v1", "http://10.0.0.7:8000/v1", "http://127.0.0.1.evil/v1"]
)
def test_a_key_in_the_clear_needs_to_be_allowed(url: str) -> None:
    with pytest.raises(ValueError, match="everybody on the way") as raised:
        check_address(url, key=KEY, insecure=False)
    assert KEY not in str(raised.value)
    check_address(url, key=KEY, insecure=True)
    check_address(url, key=None, insecure=False)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http:///v1", "", "/v1"])
def test_what_is_no_address_of_a_server_is_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="http://host/v1 or https://host/v1 is needed"):
        check_address(url, key=None, insecure=False)


@pytest.mark.parametrize("url", ["https://me:hidden@host/v1", "https://host/v1?key=hidden"])
def test_a_secret_in_an_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="written down") as raised:
        check_address(url, key=None, insecure=False)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schl\u00fcssel", "\x00"])
def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="one word of printable ASCII") as raised:
        check_address("https://host/v1", key=key, insecure=False)
    assert not key.strip() or key.strip() not in str(raised.value)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as running:
        yield running


def get(endpoint: FakeEndpoint, timeout_s: float = 20.0) -> httpx2.Response:
    with open_client(key=None, timeout_s=timeout_s, concurrency=1) as client:
        return client.get(f"{endpoint.url}/models")


def test_an_answer_up_to_the_bound_is_read_whole(endpoint: FakeEndpoint) -> None:
    endpoint.listing = Reply(body=b"x" * LIMIT_BYTES)
    assert len(get(endpoint).content) == LIMIT_BYTES
    endpoint.listing = Reply(body=b"x" * (LIMIT_BYTES + 1))
    with pytest.raises(Unread, match="more than"):
        get(endpoint)


def test_an_error_is_bounded_as_well(endpoint: FakeEndpoint) -> None:
    endpoint.listing = Reply(status=500, body=b"x" * (LIMIT_BYTES + 1))
    with pytest.raises(Unread, match="more than"):
        get(endpoint)


def test_bytes_that_come_one_by_one_do_not_come_for_ever(endpoint: FakeEndpoint) -> None:
    endpoint.listing = Reply(body=b"x" * 100, pause_s=0.1)
    with pytest.raises(httpx2.ReadTimeout, match="too long"):
        get(endpoint, timeout_s=1.0)


def test_a_stranger_who_poses_as_the_server_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = certificates.Authority()
    chain, key = certificates.write(tmp_path, authority.issue("localhost"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, key)
    with FakeEndpoint(tls=tls) as endpoint:
        with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
            get(endpoint)
        assert not endpoint.asked
        trusted = tmp_path / "authority.pem"
        trusted.write_bytes(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert get(endpoint).status_code == 200
