"""Who may call a running server, and what everybody else is told."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.client import AsyncRankerClient, ClientTls, RankerClient, RankerError
from ranker.limits import ServerConfig
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import callers
from ranker.service.authentication import Gate
from ranker.service.callers import Rate
from ranker.service.exchange import CALLER
from ranker.service.reloading import Reloading
from ranker.service.server import running
from ranker.service.statuses import Reason, StatusError
from tests.ranker.certificates import LOOPBACK, Authority, write
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10
RERANK = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a", "b"])
METHODS = {
    "Rerank": lambda stub, metadata: stub.Rerank(RERANK, timeout=PATIENCE_S, metadata=metadata),
    "Recommend": lambda stub, metadata: stub.Recommend(
        pb.RecommendRequest(user=pb.User(user_id="ada")), timeout=PATIENCE_S, metadata=metadata
    ),
    "StreamRerank": lambda stub, metadata: list(
        stub.StreamRerank(
            pb.StreamRerankRequest(rerank=RERANK), timeout=PATIENCE_S, metadata=metadata
        )
    ),
    "GetInfo": lambda stub, metadata: stub.GetInfo(
        pb.GetInfoRequest(), timeout=PATIENCE_S, metadata=metadata
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "callers.jsonl"


@pytest.fixture
def token(path: Path) -> str:
    return callers.add(path, "shop")


@pytest.fixture
def address(path: Path, token: str) -> Iterator[str]:
    with running(TableServing(), config=ServerConfig(port=0, callers=path)) as server:
        yield server.address


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def ask(address: str, metadata: Any = (), *, method: str = "Rerank") -> Any:
    with grpc.insecure_channel(address) as channel:
        return METHODS[method](pb_grpc.RankerServiceStub(channel), metadata)


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, str]:
    """The code, the reason and the sentence."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    status.details[0].Unpack(info)
    return error.code(), info.reason, error.details()


@pytest.mark.parametrize("method", METHODS)
def test_a_callers_token_opens_every_method(address: str, token: str, method: str) -> None:
    assert ask(address, bearer(token), method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ((), "no token was sent"),
        (bearer("sommelier_wrong"), "the token is not known here"),
        (bearer(""), "what was sent is no single bearer token"),
        ([("authorization", "Basic YTpi")], "what was sent is no single bearer token"),
        (2 * bearer("sommelier_wrong"), "what was sent is no single bearer token"),
    ],
)
def test_no_method_opens_to_anything_else(
    address: str, method: str, metadata: Any, told: str
) -> None:
    code, reason, sentence = refused(lambda: ask(address, metadata, method=method))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert reason == Reason.UNAUTHENTICATED
    assert sentence.startswith(told)
    assert "sommelier_wrong" not in sentence


def test_two_right_tokens_are_refused_like_two_wrong_ones(address: str, token: str) -> None:
    code, _, _ = refused(lambda: ask(address, 2 * bearer(token)))
    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_the_schemes_name_may_be_written_in_any_case(address: str, token: str) -> None:
    assert ask(address, [("authorization", f"bearer {token}")]).items


def test_health_and_reflection_need_no_token(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=PATIENCE_S
        )
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "sommelier.ranker.v1.RankerService" in services


def test_whoever_may_not_call_learns_nothing_of_their_message(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary("/sommelier.ranker.v1.RankerService/Rerank")
        code, _, _ = refused(lambda: raw(b"\xff" * 100, timeout=PATIENCE_S))
    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_no_token_ever_reaches_the_log(
    address: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(address, bearer(token))
    for wrong in (bearer("sommelier_wrong"), 2 * bearer(token), bearer(f"{token} {token}")):
        refused(lambda wrong=wrong: ask(address, wrong))  # type: ignore[misc]
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary("/sommelier.ranker.v1.RankerService/Rerank")
        refused(lambda: raw(b"\xff", metadata=bearer(token), timeout=PATIENCE_S))
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert token not in told
    assert "sommelier_wrong" not in told


def test_a_revoked_token_is_refused_and_a_new_one_let_in_without_a_restart(path: Path) -> None:
    former = callers.add(path, "shop")
    gate = Gate(
        callers=Reloading([path], lambda: callers.read(path), what="callers", look_every_s=0)
    )
    assert gate.admit([f"Bearer {former}"]) == "shop"
    newest = callers.add(path, "shop")
    assert gate.admit([f"Bearer {former}"]) == gate.admit([f"Bearer {newest}"]) == "shop"
    callers.revoke(path, "shop", but_newest=True)
    with pytest.raises(StatusError, match="not known here"):
        gate.admit([f"Bearer {former}"])
    assert gate.admit([f"Bearer {newest}"]) == "shop"


def test_a_file_that_is_broken_meanwhile_lets_nobody_else_in(path: Path) -> None:
    token = callers.add(path, "shop")
    gate = Gate(
        callers=Reloading([path], lambda: callers.read(path), what="callers", look_every_s=0)
    )
    path.write_text("")
    with pytest.raises(StatusError, match="not known here"):
        gate.admit([f"Bearer {token}"])
    path.write_text("not JSON")
    with pytest.raises(StatusError, match="not known here"):
        gate.admit([f"Bearer {token}"])


def test_the_exchange_is_told_who_calls(path: Path, token: str) -> None:
    gate = Gate.of(ServerConfig(callers=path))
    gate.admit([f"Bearer {token}"])
    assert CALLER.get() == "shop"


def test_a_caller_beyond_their_rate_is_told_when_to_come_again(path: Path) -> None:
    shop = callers.add(path, "shop", rate=Rate(requests_per_s=0.001, burst=2))
    blog = callers.add(path, "blog")
    with running(TableServing(), config=ServerConfig(port=0, callers=path)) as server:
        for _ in range(2):
            ask(server.address, bearer(shop))
        for method in METHODS:
            code, reason, sentence = refused(
                lambda method=method: ask(server.address, bearer(shop), method=method)  # type: ignore[misc]
            )
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason == Reason.RATE_LIMITED
            assert "0.001 requests a second are granted to shop" in sentence
        assert ask(server.address, bearer(blog)).items


def test_without_callers_all_share_the_one_rate() -> None:
    config = ServerConfig(port=0, requests_per_s=0.001, burst=3)
    with running(TableServing(), config=config) as server:
        for _ in range(3):
            ask(server.address)
        code, _, _ = refused(lambda: ask(server.address))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_by_default_everybody_may_call() -> None:
    with running(TableServing()) as server:
        assert ask(server.address).items
        assert ask(server.address, bearer("whatever")).items


def test_a_missing_file_of_callers_is_refused_at_the_start(path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"server\.callers: .*No such file"),
        running(TableServing(), config=ServerConfig(port=0, callers=path)),
    ):
        pass


class Mutual:
    """A server that asks for certificates, and callers who bring some."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        chain, key = write(folder, self.authority.issue("ranker"))
        ca = folder / "clients.pem"
        ca.write_bytes(self.authority.pem)
        self.tls = {"port": 0, "tls_certificate": chain, "tls_key": key, "tls_client_ca": ca}

    def ask(self, address: str, name: str, metadata: Any = (), **more: Any) -> Any:
        method = more.pop("method", "Rerank")
        chain, key = self.authority.issue(name, **more)
        secured = grpc.ssl_channel_credentials(
            root_certificates=self.authority.pem, certificate_chain=chain, private_key=key
        )
        with grpc.secure_channel(address, secured) as channel:
            return METHODS[method](pb_grpc.RankerServiceStub(channel), metadata)


@pytest.fixture
def mutual(tmp_path: Path) -> Mutual:
    return Mutual(tmp_path)


def test_a_certificate_names_its_caller(mutual: Mutual) -> None:
    config = ServerConfig(**mutual.tls, requests_per_s=0.001, burst=1)  # type: ignore[arg-type]
    with running(TableServing(), config=config) as server:
        mutual.ask(server.address, "shop")
        code, _, sentence = refused(lambda: mutual.ask(server.address, "shop"))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "granted to shop" in sentence
        mutual.ask(server.address, "blog", method="StreamRerank")


def test_beside_a_file_of_callers_a_certificate_must_be_named_in_it(
    mutual: Mutual, path: Path
) -> None:
    callers.add(path, "shop", has_token=False)
    with running(TableServing(), config=ServerConfig(**mutual.tls, callers=path)) as server:  # type: ignore[arg-type]
        for method in METHODS:
            assert mutual.ask(server.address, "shop", method=method)
            code, reason, sentence = refused(
                lambda method=method: mutual.ask(server.address, "blog", method=method)  # type: ignore[misc]
            )
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert reason == Reason.PERMISSION_DENIED
            assert "'blog'" in sentence


def test_a_token_beside_a_certificate_decides(mutual: Mutual, path: Path) -> None:
    token = callers.add(path, "shop")
    with running(TableServing(), config=ServerConfig(**mutual.tls, callers=path)) as server:  # type: ignore[arg-type]
        assert mutual.ask(server.address, "anything", bearer(token)).items
        code, _, _ = refused(lambda: mutual.ask(server.address, "shop"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        code, _, _ = refused(lambda: mutual.ask(server.address, "shop", bearer("wrong")))
        assert code is grpc.StatusCode.UNAUTHENTICATED


def test_an_alternative_name_counts_as_well(mutual: Mutual, path: Path) -> None:
    callers.add(path, "spiffe://shop/web", has_token=False)
    uri = x509.UniformResourceIdentifier("spiffe://shop/web")
    with running(TableServing(), config=ServerConfig(**mutual.tls, callers=path)) as server:  # type: ignore[arg-type]
        names = (LOOPBACK, uri)
        assert mutual.ask(server.address, "", alternative_names=names).items


def test_a_certificate_without_a_usable_name_is_nobodys(mutual: Mutual) -> None:
    with running(TableServing(), config=ServerConfig(**mutual.tls)) as server:  # type: ignore[arg-type]
        for name in ("", "two words"):
            code, _, _ = refused(
                lambda name=name: mutual.ask(server.address, name, alternative_names=())  # type: ignore[misc]
            )
            assert code is grpc.StatusCode.PERMISSION_DENIED


def test_our_own_clients_come_in_with_a_certificate_or_a_token(
    mutual: Mutual, path: Path, tmp_path: Path
) -> None:
    callers.add(path, "shop", has_token=False)
    token = callers.add(path, "blog")
    chain, key = write(tmp_path, mutual.authority.issue("shop"), stem="shop")
    tls = ClientTls(ca=mutual.tls["tls_client_ca"], certificate=chain, key=key)  # type: ignore[arg-type]

    async def ask_async(address: str) -> str:
        async with AsyncRankerClient(address, timeout_s=PATIENCE_S, tls=tls, token=token) as blog:
            return (await blog.info()).generation_id

    with running(TableServing(), config=ServerConfig(**mutual.tls, callers=path)) as server:  # type: ignore[arg-type]
        with RankerClient(server.address, timeout_s=PATIENCE_S, tls=tls) as shop:
            assert shop.rerank(["a", "b"], user_id="ada").items
        assert asyncio.run(ask_async(server.address)) == "g1"
        with (
            RankerClient(server.address, timeout_s=PATIENCE_S, tls=tls, token="wrong") as nobody,
            pytest.raises(RankerError) as refused_one,
        ):
            nobody.info()
    assert (refused_one.value.code, refused_one.value.reason) == (
        "UNAUTHENTICATED",
        "UNAUTHENTICATED",
    )


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    path = tmp_path_factory.mktemp("gate") / "callers.jsonl"
    callers.add(path, "shop")
    return Gate.of(ServerConfig(callers=path))


@given(authorization=st.lists(st.text(max_size=80) | st.text(max_size=80).map("Bearer ".__add__)))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_words_but_the_right_ones_open_the_gate(gate: Gate, authorization: list[str]) -> None:
    with pytest.raises(StatusError) as refused_one:
        gate.admit(authorization)
    assert refused_one.value.code is grpc.StatusCode.UNAUTHENTICATED
