"""A message in, a page of ten items out, by gRPC's own server and a handler that does nothing.

What a call costs at least in this language on this machine: the floor beneath a service whose
model costs nothing.
"""

import asyncio
import sys

import grpc

from ranker.pb import ranker_pb2 as pb

PAGE = 10


def answer() -> pb.RerankResponse:
    """Always the same."""
    items = [pb.RankedItem(item_id=f"item-{n:05}", rank=n, score=1 / n) for n in range(1, PAGE + 1)]
    return pb.RerankResponse(items=items, generation_id="benchmark")


async def main() -> None:
    """Serve, say where, and stop with the standard input."""
    page = answer()

    async def rerank(request: pb.RerankRequest, context: object) -> pb.RerankResponse:
        return page

    method = grpc.unary_unary_rpc_method_handler(
        rerank,
        request_deserializer=pb.RerankRequest.FromString,
        response_serializer=pb.RerankResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "sommelier.ranker.v1.RankerService", {"Rerank": method}
            )
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f'{{"address": "127.0.0.1:{port}"}}', flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(main())
