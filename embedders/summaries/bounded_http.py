"""A server's address and key in, an HTTP client out that says no more and reads no more than meant.

What is sent: our own headers. OpenAI's client would add what it finds in the environment (an
organization, a project, any header of OPENAI_CUSTOM_HEADERS), and that is nobody else's business.
What is read: so many bytes, in so much time, uncompressed, since a few kilobytes unpack to
gigabytes; and nothing from an address that a server points to instead of answering.

Certificates are checked, always; SSL_CERT_FILE names an authority of one's own, and proxies are
the environment's, as for every other program.
"""

import ipaddress
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
from openai import OpenAIError

LIMIT_BYTES = 4 << 20  # of one answer; a list of some thousand models has about one MiB
CONNECT_S = 10.0
OURS = frozenset(
    {
        "accept",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        # Notes that the client leaves itself: how to hand an answer over, how often it was asked.
        "x-stainless-raw-response",
        "x-stainless-retry-count",
    }
)


class Unread(OpenAIError):
    """An answer that is not read to its end; asking again would bring the same one."""


def check_address(url: str, *, key: str | None, insecure: bool) -> None:
    """Whether a key may be sent there.

    Raises:
        ValueError: no address of HTTP, one with a secret in it, or a key that would be read on the
            way or is none. Neither key nor secret is quoted.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "url: an address alone is taken; a user, a password or a query in it would be written "
            "down with it. Put the key into the environment's variable `key_variable`"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: http://host/v1 or https://host/v1 is needed, got {url!r}")
    if key is None:
        return
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the server's key: one word of printable ASCII is needed")
    if parts.scheme == "http" and not insecure and not _is_local(parts.hostname):
        raise ValueError(
            f"the key would travel to {parts.netloc} for everybody on the way to read: write "
            f"https://, or set insecure = true where something else encrypts"
        )


def open_client(*, key: str | None, timeout_s: float, concurrency: int) -> httpx2.Client:
    """A client that sends the key with every request, and bounds every answer.

    Args:
        key: Held by this client alone; None sends none.
        timeout_s: Of silence, and of an answer's body as a whole.
        concurrency: Connections that are kept.
    """

    def send(request: httpx2.Request) -> None:
        for name in [name for name in request.headers if name.lower() not in OURS]:
            del request.headers[name]
        request.headers["accept-encoding"] = "identity"
        if key is not None:
            request.headers["authorization"] = f"Bearer {key}"

    def receive(response: httpx2.Response) -> None:
        if (coding := response.headers.get("content-encoding", "identity")) != "identity":
            raise Unread(f"the answer is compressed ({coding[:20]}), which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, timeout_s=timeout_s)

    return httpx2.Client(
        event_hooks={"request": [send], "response": [receive]},
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=concurrency),
        timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S)),
    )


class _Bounded(httpx2.SyncByteStream):
    """A body of so many bytes, within so much time: each of its bytes may come in time, but all?"""

    def __init__(self, stream: httpx2.SyncByteStream, *, timeout_s: float) -> None:
        self._stream = stream
        self._until = time.monotonic() + timeout_s

    def __iter__(self) -> Iterator[bytes]:
        num_bytes = 0
        for chunk in self._stream:
            num_bytes += len(chunk)
            if num_bytes > LIMIT_BYTES:
                raise Unread(f"the answer has more than {LIMIT_BYTES:,} bytes")
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the answer's body takes too long")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
