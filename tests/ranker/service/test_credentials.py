"""TLS and mTLS of a running server, with certificates made here, exchanged while it answers."""

import logging
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from ranker.limits import ServerConfig
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import credentials
from ranker.service.server import running
from tests.ranker.certificates import AN_HOUR, Authority, encrypted, write
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10
AUTHORITY = Authority()
ISSUED = AUTHORITY.issue("ranker")


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    chain, key = write(tmp_path, ISSUED)
    return ServerConfig(port=0, tls_certificate=chain, tls_key=key)


@pytest.fixture
def mutual(config: ServerConfig, tmp_path: Path) -> ServerConfig:
    ca = tmp_path / "clients.pem"
    ca.write_bytes(AUTHORITY.pem)
    return ServerConfig(
        port=0, tls_certificate=config.tls_certificate, tls_key=config.tls_key, tls_client_ca=ca
    )


def info(address: str, *, trusted: bytes, own: tuple[bytes, bytes] | None = None) -> Any:
    chain, key = own or (None, None)
    secured = grpc.ssl_channel_credentials(
        root_certificates=trusted, certificate_chain=chain, private_key=key
    )
    with grpc.secure_channel(address, secured) as channel:
        stub = pb_grpc.RankerServiceStub(channel)
        return stub.GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S)


def refusal(address: str, *, trusted: bytes, own: tuple[bytes, bytes] | None = None) -> Any:
    with pytest.raises(grpc.RpcError) as refused:
        info(address, trusted=trusted, own=own)
    return refused.value.code()  # type: ignore[attr-defined]


def test_whoever_trusts_the_authority_is_answered(config: ServerConfig) -> None:
    with running(TableServing(), config=config) as server:
        assert info(server.address, trusted=AUTHORITY.pem).generation_id == "g1"


def test_a_server_of_another_authority_is_not_believed(config: ServerConfig) -> None:
    with running(TableServing(), config=config) as server:
        code = refusal(server.address, trusted=Authority("another").pem)
    assert code is grpc.StatusCode.UNAVAILABLE


def test_plain_text_is_not_answered_where_tls_is_on(config: ServerConfig) -> None:
    with (
        running(TableServing(), config=config) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        pb_grpc.RankerServiceStub(channel).GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_with_mutual_tls_a_caller_needs_a_certificate_of_the_authority(
    mutual: ServerConfig,
) -> None:
    shop, stranger = AUTHORITY.issue("shop"), Authority("another").issue("shop")
    with running(TableServing(), config=mutual) as server:
        assert info(server.address, trusted=AUTHORITY.pem, own=shop).generation_id == "g1"
        for own in (None, stranger):
            code = refusal(server.address, trusted=AUTHORITY.pem, own=own)
            assert code is grpc.StatusCode.UNAVAILABLE


def test_a_callers_certificate_that_has_run_out_is_refused(mutual: ServerConfig) -> None:
    late = AUTHORITY.issue("shop", since=-3 * AN_HOUR)
    with running(TableServing(), config=mutual) as server:
        code = refusal(server.address, trusted=AUTHORITY.pem, own=late)
    assert code is grpc.StatusCode.UNAVAILABLE


def test_certificates_are_exchanged_while_the_server_runs(
    config: ServerConfig, tmp_path: Path
) -> None:
    next_authority = Authority("next")
    with running(TableServing(), config=config) as server:
        standing = grpc.secure_channel(
            server.address, grpc.ssl_channel_credentials(root_certificates=AUTHORITY.pem)
        )
        stub = pb_grpc.RankerServiceStub(standing)
        stub.GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S)
        write(tmp_path, next_authority.issue("ranker"))
        until = time.monotonic() + PATIENCE_S
        while _is_refused(server.address, trusted=next_authority.pem):
            assert time.monotonic() < until, "the new certificate never came into use"
        assert refusal(server.address, trusted=AUTHORITY.pem) is grpc.StatusCode.UNAVAILABLE
        stub.GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S)
        standing.close()


def _is_refused(address: str, *, trusted: bytes) -> bool:
    try:
        info(address, trusted=trusted)
    except grpc.RpcError:
        return True
    return False


def test_a_broken_exchange_leaves_the_former_certificate_in_use(
    config: ServerConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(TableServing(), config=config) as server:
        (tmp_path / "server.key").write_bytes(AUTHORITY.issue("ranker")[1])
        until = time.monotonic() + PATIENCE_S
        while "cannot be used; the former stay" not in caplog.text:
            assert time.monotonic() < until, "nobody looked at the new key"
            assert info(server.address, trusted=AUTHORITY.pem).generation_id == "g1"
        assert info(server.address, trusted=AUTHORITY.pem).generation_id == "g1"
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    assert "PRIVATE KEY" not in caplog.text


def test_a_server_without_certificates_has_no_credentials() -> None:
    assert credentials.server_credentials(ServerConfig()) is None


def test_a_key_of_another_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    chain, key = write(tmp_path, (ISSUED[0], AUTHORITY.issue("ranker")[1]))
    config = ServerConfig(port=0, tls_certificate=chain, tls_key=key)
    with (
        pytest.raises(ValueError, match="no certificate chain in PEM with its own key"),
        running(TableServing(), config=config),
    ):
        pass


def test_a_missing_file_is_named(config: ServerConfig, tmp_path: Path) -> None:
    (tmp_path / "server.key").unlink()
    with pytest.raises(ValueError, match=r"server\.key: No such file"):
        credentials.server_credentials(config)


def test_an_encrypted_key_is_refused_without_asking_anybody(
    config: ServerConfig, tmp_path: Path
) -> None:
    (tmp_path / "server.key").write_bytes(encrypted(ISSUED[1], b"a password"))
    with pytest.raises(ValueError, match="is encrypted"):
        credentials.server_credentials(config)


def test_an_authority_that_is_none_is_refused(mutual: ServerConfig, tmp_path: Path) -> None:
    (tmp_path / "clients.pem").write_text("trust me")
    with pytest.raises(ValueError, match=r"tls_client_ca .* holds no certificates in PEM"):
        credentials.server_credentials(mutual)
