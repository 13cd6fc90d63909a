"""An authority of the tests' own, and the certificates that it vouches for."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AN_HOUR = timedelta(hours=1)
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """Vouches for whatever it is asked to."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self._name, self._key).issuer_name(self._name)
        self._certificate = builder.add_extension(constraints, critical=True).sign(
            self._key, hashes.SHA256()
        )

    @property
    def pem(self) -> bytes:
        """What those who trust it are given."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        common_name: str,
        *,
        alternative_names: tuple[x509.GeneralName, ...] = (LOOPBACK,),
        since: timedelta = -AN_HOUR,
    ) -> tuple[bytes, bytes]:
        """A certificate of an hour's validity on both sides of now, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(common_name), key, since=since).issuer_name(self._name)
        if alternative_names:
            names = x509.SubjectAlternativeName(alternative_names)
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def encrypted(key: bytes, password: bytes) -> bytes:
    """The same key behind a password."""
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def write(folder: Path, issued: tuple[bytes, bytes], *, stem: str = "server") -> tuple[Path, Path]:
    """The certificate's and the key's file."""
    paths = folder / f"{stem}.pem", folder / f"{stem}.key"
    for path, content in zip(paths, issued, strict=True):
        path.write_bytes(content)
    return paths


def _named(common_name: str) -> x509.Name:
    if not common_name:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, since: timedelta = -AN_HOUR
) -> x509.CertificateBuilder:
    begins = datetime.now(UTC) + since
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + 2 * AN_HOUR)
    )
