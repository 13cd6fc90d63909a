"""HTTP and JSON in, the same service's answers out: a second door beside gRPC, in its event loop.

    POST /v1/rerank, /v2/rerank    as clients of Cohere's and Jina's rerankers ask
    POST /v1/recommend             GET /v1/info
    GET  /healthz                  GET /docs, /openapi.json

Every request becomes the wire's own message and goes through the same checks, queue, deadlines and
tokens as one over gRPC, and is observed alike.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
from fastapi import Request, Response, Security
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute, APIRouter
from fastapi.security import HTTPBearer
from grpc_health.v1 import health_pb2
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service.authentication import Gate
from ranker.service.exchange import Exchanges
from ranker.service.rest import answers, page
from ranker.service.rest.answers import RecommendAnswer, RerankAnswer
from ranker.service.rest.door import REQUEST_ID, Door, asked, with_id
from ranker.service.rest.refusals import Refusal
from ranker.service.rest.requests import RecommendBody, RerankBody
from ranker.service.rest.server import RestServer
from ranker.service.servicer import RankerService

METHODS = {
    "/v1/rerank": "Rerank",
    "/v2/rerank": "Rerank",
    "/v1/recommend": "Recommend",
    "/v1/info": "GetInfo",
}
REFUSED: dict[int | str, dict[str, Any]] = {
    "default": {"model": Refusal, "description": "Refused; the body says why."}
}
ABOUT = """Orders items for users, or finds and orders them. Every request may bear the headers
`authorization: Bearer <token>` (where the server asks for tokens), `x-timeout-ms` (its deadline),
`x-request-id` and `traceparent`."""


def application(
    service: RankerService, door: Door, *, watchman: Any, config: ServerConfig
) -> fastapi.FastAPI:
    """The ASGI application.

    Args:
        service: The methods of the wire.
        door: Through which every request to them goes.
        watchman: gRPC's health service, asked for /healthz.
        config: Whether the service describes itself (`reflection`).
    """
    app = fastapi.FastAPI(
        title="Sommelier",
        description=ABOUT,
        version="1",
        openapi_url="/openapi.json" if config.reflection else None,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(_methods(service, door))
    app.add_api_route("/healthz", _health(watchman), include_in_schema=False)
    if config.reflection:
        app.add_api_route("/docs", _page(app), include_in_schema=False)
    app.add_exception_handler(HTTPException, _no_such_path)
    return app


def rest_server(
    service: RankerService,
    *,
    config: ServerConfig,
    limits: ServiceLimits,
    gate: Gate,
    exchanges: Exchanges,
    watchman: Any,
) -> RestServer:
    """HTTP beside a gRPC server: its service, its tokens, its observers and its health."""
    door = Door(exchanges, gate, config=config, limits=limits)
    return RestServer(application(service, door, watchman=watchman, config=config), config)


def _methods(service: RankerService, door: Door) -> APIRouter:
    class Route(APIRoute):
        """Passes through the door before its body is read."""

        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle, method = super().get_route_handler(), METHODS[self.path]

            async def answer(request: Request) -> Response:
                return await door.answer(method, request, handle)

            return answer

    async def rerank(body: RerankBody, request: Request) -> Response:
        request.state.call.named = body.field
        message = _identified(body.message(), request)
        response = await asked(request, service.Rerank, message)
        version = request.url.path[2:3]
        answer = answers.to_rerank(response, body, version=version)
        return _json(answer, request_id=response.request_id)

    async def recommend(body: RecommendBody, request: Request) -> Response:
        request.state.call.named = body.field
        message = _identified(body.message(), request)
        response = await asked(request, service.Recommend, message)
        return _json(answers.to_recommend(response), request_id=response.request_id)

    async def info(request: Request) -> Response:
        response = await asked(request, service.GetInfo, pb.GetInfoRequest())
        return JSONResponse(answers.to_info(response))

    router = APIRouter(
        route_class=Route,
        responses=REFUSED,
        # Says in the description that there may be tokens; the door looks at them.
        dependencies=[Security(HTTPBearer(auto_error=False))],
    )
    router.add_api_route(
        "/v2/rerank",
        rerank,
        methods=["POST"],
        summary="Order items for a user",
        description="In the shape of Cohere's and Jina's rerankers: a query and documents.",
        response_model=RerankAnswer,
        operation_id="rerank",
    )
    router.add_api_route(
        "/v1/rerank",
        rerank,
        methods=["POST"],
        summary="The same, for clients of version 1",
        response_model=RerankAnswer,
        operation_id="rerank_v1",
    )
    router.add_api_route(
        "/v1/recommend",
        recommend,
        methods=["POST"],
        summary="Find items for a user, and order them",
        response_model=RecommendAnswer,
        operation_id="recommend",
    )
    router.add_api_route(
        "/v1/info",
        info,
        summary="What is served, and what one request may ask",
        response_model=dict[str, Any],
        operation_id="info",
    )
    return router


def _health(watchman: Any) -> Callable[[], Awaitable[Response]]:
    async def health() -> Response:
        told = await watchman.Check(health_pb2.HealthCheckRequest(), None)
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(told.status)
        return JSONResponse({"status": name}, status_code=200 if name == "SERVING" else 503)

    return health


def _page(app: fastapi.FastAPI) -> Callable[[], Awaitable[Response]]:
    async def shown() -> Response:
        return HTMLResponse(page.render(app.openapi()), headers=page.HEADERS)

    return shown


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(
        message=f"there is no {request.method} here; GET /docs tells what there is",
        code="UNIMPLEMENTED",
        reason="UNIMPLEMENTED",
    )
    return JSONResponse(
        refusal.model_dump(exclude_none=True), status_code=error.status_code, headers=error.headers
    )


def _identified(message: Any, request: Request) -> Any:
    """The message with its id, which the header may bear instead."""
    if not message.request_id:
        message.request_id = request.headers.get(REQUEST_ID, "")
    request.state.call.exchange.request_id = message.request_id
    return message


def _json(answer: BaseModel, *, request_id: str) -> Response:
    return Response(
        answer.model_dump_json(exclude_none=True),
        media_type="application/json",
        headers=with_id(request_id),
    )
