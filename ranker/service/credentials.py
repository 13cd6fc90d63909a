"""Files of certificates in, gRPC's server credentials out, exchanged while the server runs.

Every new connection is shaken hands with the certificate that the files hold at that time;
connections that stand keep theirs. TLS 1.2 is the least that gRPC speaks.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from ranker.limits import ServerConfig
from ranker.service.reloading import Reloading


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the files say, in PEM."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    """Who vouches for callers; None lets in callers without a certificate."""


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Those of the settings; None where they name no certificate.

    Raises:
        ValueError: a file cannot be read, the key is not the certificate's, or it is encrypted.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    paths = (config.tls_certificate, config.tls_key, config.tls_client_ca)
    followed = Reloading(
        [path for path in paths if path is not None],
        lambda: read(paths[0], paths[1], client_ca=paths[2]),
        what="the TLS certificates",
    )
    return _dynamic(followed)


def read(chain: Path, key: Path, *, client_ca: Path | None = None) -> Certificates:
    """The files' content, checked.

    Raises:
        ValueError: they do not fit together, or changed meanwhile.
        OSError: a file cannot be read.
    """
    found = _content(chain, key, client_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(chain, key, password=_no_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"server.tls_certificate {chain} and server.tls_key {key} are no certificate chain in "
            f"PEM with its own key ({error.reason or error})"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ValueError(
                f"server.tls_client_ca {client_ca} holds no certificates in PEM "
                f"({error.reason or error})"
            ) from error
    if _content(chain, key, client_ca) != found:
        raise ValueError("the TLS certificates changed while they were read")
    return found


def _content(chain: Path, key: Path, client_ca: Path | None) -> Certificates:
    return Certificates(
        chain=chain.read_bytes(),
        key=key.read_bytes(),
        client_ca=client_ca.read_bytes() if client_ca is not None else None,
    )


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal, and a server without one would hang.
    raise ValueError("server.tls_key is encrypted; keys are read without a password here")


def _dynamic(followed: Reloading[Certificates]) -> grpc.ServerCredentials:
    given = followed.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake, in a thread of its own; None changes nothing."""
        nonlocal given
        newest = followed.current()
        if newest is given:
            return None
        given = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        fetch,  # type: ignore[arg-type, unused-ignore]  # whose stubs forget the None
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(found: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(found.key, found.chain)], root_certificates=found.client_ca
    )
