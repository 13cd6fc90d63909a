"""A real HTTP server beside the gRPC one, asked by a public client of rerankers and by httpx."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cohere
import grpc
import httpx
import pytest
from cohere.core.api_error import ApiError

from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import callers
from ranker.service.server import RankerServer, running
from tests.ranker.serving_world import BEST_FIRST, SCORES, TITLES, TableServing

CONFIG = ServerConfig(port=0, rest_port=0, log_requests=True)
LIMITS = ServiceLimits(
    candidates=10, history=3, top_k=8, id_length=16, message_bytes=2000, queue=1,
    default_candidates=4, default_top_k=2,
)  # fmt: skip
PATIENCE_S = 10
DOCUMENTS = ["d", "a", "e", "c", "b"]
BODY = {"query": "ada", "documents": DOCUMENTS}


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving, config=CONFIG, limits=LIMITS, grace_s=0) as started:
        yield started


@pytest.fixture
def http(server: RankerServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address(server), timeout=PATIENCE_S) as client:
        yield client


def address(server: RankerServer) -> str:
    return f"http://127.0.0.1:{server.rest_port}"


def counted(server: RankerServer, code: str, method: str = "Rerank") -> float | None:
    labels = {"method": method, "code": code}
    return server.metrics.registry.get_sample_value("sommelier_requests_total", labels)


def test_coheres_client_of_version_2_reranks_unchanged(
    server: RankerServer, http: httpx.Client
) -> None:
    client = cohere.ClientV2(api_key="none", base_url=address(server), httpx_client=http)
    response = client.rerank(model="any", query="ada", documents=DOCUMENTS, top_n=3)
    assert [DOCUMENTS[result.index] for result in response.results] == BEST_FIRST[:3]
    scores = [result.relevance_score for result in response.results]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= min(scores) <= max(scores) <= 1
    assert response.id


def test_coheres_client_of_version_1_gets_its_documents_back(
    server: RankerServer, http: httpx.Client
) -> None:
    client = cohere.Client(api_key="none", base_url=address(server), httpx_client=http)
    documents: list[Any] = [{"text": "a"}, "b", {"text": "c", "shelf": "7"}]
    response = client.rerank(query="ada", documents=documents, return_documents=True)
    assert [result.index for result in response.results] == [2, 1, 0]
    assert [result.document.text for result in response.results if result.document] == [*"cba"]
    assert response.meta is not None
    assert response.meta.api_version is not None
    assert response.meta.api_version.version == "1"


def test_coheres_client_of_asyncio_reranks_for_a_history(server: RankerServer) -> None:
    history = {"history": [{"item_id": "b", "behavior": "view"}]}

    async def ask() -> Any:
        async with cohere.AsyncClientV2(api_key="none", base_url=address(server)) as client:
            return await client.rerank(model="", query=json.dumps(history), documents=DOCUMENTS)

    response = asyncio.run(ask())
    assert [DOCUMENTS[result.index] for result in response.results] == BEST_FIRST


def test_coheres_client_raises_its_own_errors(server: RankerServer, http: httpx.Client) -> None:
    client = cohere.ClientV2(api_key="none", base_url=address(server), httpx_client=http)
    with pytest.raises(cohere.NotFoundError) as unknown:
        client.rerank(model="", query="nobody", documents=DOCUMENTS)
    assert unknown.value.body["reason"] == "UNKNOWN_USER"
    with pytest.raises(ApiError) as wrong:
        client.rerank(model="", query="ada", documents=["a", "x" * 17])
    assert wrong.value.status_code == 400
    assert [one["field"] for one in wrong.value.body["fields"]] == ["documents[1]"]


def test_jinas_shape_is_answered_too(http: httpx.Client) -> None:
    body = {"model": "jina-reranker-v2", "truncation": True, **BODY, "top_n": 1}
    answer = http.post("/v1/rerank", json=body).raise_for_status().json()
    assert answer["model"] == "jina-reranker-v2"
    assert answer["usage"] == {"total_tokens": 0}
    assert [result["index"] for result in answer["results"]] == [2]


def test_over_http_and_over_grpc_the_answer_is_the_same(
    server: RankerServer, http: httpx.Client
) -> None:
    request = {"user_id": "ada", "top_k": 3, "explain": True, "request_id": "r1"}
    over_http = http.post("/v1/recommend", json=request).raise_for_status().json()
    with grpc.insecure_channel(server.address) as channel:
        over_grpc = pb_grpc.RankerServiceStub(channel).Recommend(
            pb.RecommendRequest(user=pb.User(user_id="ada"), top_k=3, explain=True),
            timeout=PATIENCE_S,
        )
    assert over_http["request_id"] == "r1"
    assert over_http["generation_id"] == over_grpc.generation_id
    for ours, theirs in zip(over_http["items"], over_grpc.items, strict=True):
        assert ours["item_id"] == theirs.item_id
        assert ours["score"] == theirs.score == SCORES[theirs.item_id]
        assert ours["title"] == TITLES[theirs.item_id]
        assert ours["explanation"]["base"] == theirs.explanation.base


def test_a_document_that_is_there_twice_is_answered_twice(http: httpx.Client) -> None:
    body = {"query": "ada", "documents": ["a", "zz", "b", "a"]}
    results = http.post("/v2/rerank", json=body).raise_for_status().json()["results"]
    assert [result["index"] for result in results] == [2, 0, 3, 1]
    assert results[1]["relevance_score"] == results[2]["relevance_score"] > 0
    assert (results[3]["relevance_score"], results[3]["status"]) == (0, "UNKNOWN_ITEM")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "ada", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "{", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": {"userid": "ada"}, "documents": ["a"]}, "query.userid"),
        ("/v1/rerank", {"query": "ada", "documents": ["a", 3, {}]}, "documents[1]"),
        ("/v1/rerank", {"query": "ada", "documents": ["a", "a", ""]}, "documents[2]"),
        ("/v1/rerank", {"query": "ada", "documents": ["a"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "u" * 17, "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "ada", "documents": ["a"], "behavior": "sniff"}, "behavior"),
        ("/v1/recommend", {}, "body"),
        ("/v1/recommend", {"user_id": "ada", "topk": 1}, "topk"),
        ("/v1/recommend", {"user_id": "ada", "top_k": 9}, "top_k"),
        (
            "/v1/recommend",
            {"history": [{"item_id": "", "behavior": "view"}]},
            "history[0].item_id",
        ),
        (
            "/v1/recommend",
            {"history": [{"item_id": "a", "behavior": "view", "timestamp": "2026-01-01T00:00"}]},
            "history[0].timestamp",
        ),
    ],
)  # fmt: skip
def test_every_field_at_fault_is_named_as_the_body_names_it(
    http: httpx.Client, path: str, body: dict[str, Any], field: str
) -> None:
    response = http.post(path, json=body)
    assert response.status_code == 400
    told = response.json()
    assert (told["code"], told["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert told["fields"][0]["field"] == field
    assert told["message"].startswith(f"{field}: ")


def test_refusals_have_the_codes_that_http_has_for_them(
    http: httpx.Client, server: RankerServer
) -> None:
    assert http.post("/v1/rerank", json={**BODY, "query": "nobody"}).status_code == 404
    wrong = http.post("/v1/rerank", json={**BODY, "generation_id": "g0"})
    assert wrong.status_code == 400
    assert wrong.json()["reason"] == "WRONG_GENERATION"
    assert wrong.json()["metadata"] == {"served_generation_id": "g1"}
    assert http.post("/v1/nothing").status_code == 404
    assert http.get("/v1/rerank").status_code == 405
    assert counted(server, "NOT_FOUND") == 1
    assert counted(server, "FAILED_PRECONDITION") == 1


def test_an_unexpected_error_shows_an_id_and_nothing_else(
    http: httpx.Client, serving: TableServing, caplog: pytest.LogCaptureFixture
) -> None:
    serving.error = KeyError("/secret/path")
    response = http.post("/v1/rerank", json={**BODY, "request_id": "r9"})
    assert response.status_code == 500
    assert "secret" not in response.text
    error_id = response.json()["metadata"]["error_id"]
    [record] = [one for one in caplog.records if error_id in one.getMessage()]
    assert "r9" in record.getMessage()


def test_both_doors_share_one_queue(
    http: httpx.Client, server: RankerServer, serving: TableServing
) -> None:
    request = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a"])
    with ThreadPoolExecutor() as pool, grpc.insecure_channel(server.address) as channel:
        rerank = pb_grpc.RankerServiceStub(channel).Rerank
        with serving.held():
            first = rerank.future(request, timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            second = pool.submit(http.post, "/v1/rerank", json=BODY)
            while server.num_waiting < LIMITS.queue:
                time.sleep(0.005)
            third = http.post("/v1/rerank", json={**BODY, "documents": ["b"]})
        assert len(first.result().items) == 1
        assert second.result().status_code == 200
    assert third.status_code == 429
    told = third.json()
    assert (told["code"], told["reason"]) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert told["retry_after_s"] > 0
    assert int(third.headers["retry-after"]) >= told["retry_after_s"]
    assert float(third.headers["retry-after-ms"]) >= told["retry_after_s"] * 1e3


def test_the_metrics_and_the_log_see_both_doors_alike(
    server: RankerServer, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ranker.requests"):
        http.post("/v1/rerank", json=BODY, headers={"x-request-id": "r7"}).raise_for_status()
        http.post("/v1/recommend", json={}).json()
    first, second = (one.request for one in caplog.records if one.name == "ranker.requests")
    assert (first["request_id"], first["protocol"], first["code"]) == ("r7", "http", "OK")
    assert (second["method"], second["reason"]) == ("Recommend", "INVALID_REQUEST")
    assert counted(server, "OK") == 1
    assert counted(server, "INVALID_ARGUMENT", "Recommend") == 1
    value = server.metrics.registry.get_sample_value
    assert value("sommelier_items_total", {"method": "Rerank", "status": "OK"}) == 4


def test_health_says_serving_and_info_what_is_served(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "SERVING"}
    info = http.get("/v1/info").raise_for_status().json()
    assert info["generation_id"] == "g1"
    assert info["num_items"] == 5
    assert info["limits"]["candidates"] == LIMITS.candidates


def test_tokens_are_asked_for_as_over_grpc_and_health_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "callers.jsonl"
    token = callers.add(path, "shop", rate=callers.Rate(requests_per_s=0.01, burst=2))
    config = ServerConfig(port=0, rest_port=0, callers=path)
    with (
        running(TableServing(), config=config) as server,
        httpx.Client(base_url=address(server), timeout=PATIENCE_S) as http,
    ):
        refused = http.post("/v1/rerank", json=BODY)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert http.get("/healthz").status_code == 200
        client = cohere.ClientV2(api_key=token, base_url=address(server), httpx_client=http)
        assert len(client.rerank(model="", query="ada", documents=DOCUMENTS).results) == 5
        bearer = {"authorization": f"Bearer {token}"}
        assert http.get("/v1/info", headers=bearer).status_code == 200
        limited = http.get("/v1/info", headers=bearer)
        assert limited.status_code == 429
        assert limited.json()["reason"] == "RATE_LIMITED"
        value = server.metrics.registry.get_sample_value
        assert value("sommelier_limited_total", {"caller": "shop"}) == 1


def test_the_description_lists_the_paths_and_can_be_switched_off(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert sorted(paths) == ["/v1/info", "/v1/recommend", "/v1/rerank", "/v2/rerank"]
    assert "422" not in paths["/v1/rerank"]["post"]["responses"]
    assert http.get("/docs").status_code == 200
    config = ServerConfig(port=0, rest_port=0, reflection=False)
    with running(TableServing(), config=config) as silent:
        for path in ("/docs", "/openapi.json"):
            assert httpx.get(f"{address(silent)}{path}").status_code == 404
