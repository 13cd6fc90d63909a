"""An address, files of certificates and a token in, a channel and its metadata out.

What the blocking and the asynchronous client connect with. A token opens the service to whoever
reads it, so it only travels encrypted or within this machine, unless the caller insists.
"""

import ipaddress
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ranker.pb import ranker_pb2 as pb

ATTEMPTS = 4
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": pb.DESCRIPTOR.services_by_name["RankerService"].full_name}],
            "retryPolicy": {
                "maxAttempts": ATTEMPTS,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
# A server that is gone without a word (a machine without power, a cable pulled) would else be
# waited for by every call until TCP gives up, a quarter of an hour. Servers allow one ping in 10 s.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 5_000
LOCAL_SCHEMES = ("unix:", "unix-abstract:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """Whom a client trusts, and with which certificate it shows itself. Files hold PEM.

    Raises:
        ValueError: a certificate without its key, or a key without its certificate.
    """

    ca: Path | None = None
    """Who vouches for the server; None trusts those whom gRPC trusts by itself."""
    certificate: Path | None = None
    """Our own chain, where the server asks for one."""
    key: Path | None = None
    server_name: str | None = None
    """What the server's certificate must be made out to, where that is not the address's host."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls.certificate and tls.key belong together: give both")

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is opened with.

        Raises:
            ValueError: a file cannot be read, or is not what it should be.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            ca, key, chain = map(_content, (self.ca, self.key, self.certificate))
        except OSError as error:  # ssl's own error is one
            given = ", ".join(
                f"{name} {path}"
                for name in ("ca", "certificate", "key")
                if (path := getattr(self, name)) is not None
            )
            raise ValueError(
                f"tls: {given} cannot be used ({error}); certificates and an unencrypted key in "
                f"PEM are needed"
            ) from error
        return grpc.ssl_channel_credentials(ca, key, chain)


def opened(library: Any, address: str, tls: ClientTls | None) -> Any:
    """A channel, which connects at its first call.

    Args:
        library: `grpc` or `grpc.aio`.
        address: `host:port`.
        tls: None does not encrypt.

    Raises:
        ValueError: as `ClientTls.credentials`.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # else a minute, for gRPC 1.85
    ]
    if tls is None:
        return library.insecure_channel(address, options=options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return library.secure_channel(address, tls.credentials(), options=options)


def metadata(
    token: str | None, address: str, *, is_encrypted: bool, insecure: bool
) -> tuple[tuple[str, str], ...]:
    """What every call carries.

    Args:
        token: Who calls; None sends none.
        address: Where to.
        is_encrypted: Whether the channel is.
        insecure: Whether the token may travel in the clear beyond this machine.

    Raises:
        ValueError: it may not, or it is no token; what was given is not quoted.
    """
    if token is None:
        return ()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token: one word of printable ASCII is needed, as `sommelier token` gives")
    if not (is_encrypted or insecure or is_local(address)):
        raise ValueError(
            f"the token would travel to {address} for everybody on the way to read: give tls, or "
            f"say insecure where something else encrypts"
        )
    return (("authorization", f"Bearer {token}"),)


def is_local(address: str) -> bool:
    """Whether an address leads to this machine itself."""
    if address.startswith(LOCAL_SCHEMES):
        return True
    target = address.rpartition("/")[2]  # behind a scheme, such as dns:///
    host = target.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted")
