"""A user and items in, a typed answer out, from a ranker anywhere on the network.

Needs gRPC, protobuf and numpy alone; no model, store or index is loaded. Every call has a deadline.
A server that cannot be reached is tried again within it, nothing else is: an answer that failed
once for a reason would fail again.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from embedders.items import Interaction
from ranker import calls, wire
from ranker.answers import Answer, FieldViolation, RankerError, ServerInfo, Timings, TitledItem
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc

__all__ = [
    "Answer",
    "AsyncRankerClient",
    "FieldViolation",
    "RankerClient",
    "RankerError",
    "ServerInfo",
    "Timings",
    "TitledItem",
]

TIMEOUT_S = 1.0


class RankerClient:
    """Blocking calls; one client serves many threads over one connection.

    Every call raises `RankerError` where the server refuses, fails or is not reached in time, and
    `ValueError` where it makes no sense as it stands.
    """

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connects at the first call.

        Args:
            address: `host:port`.
            timeout_s: The deadline of every call that names none.
        """
        self._address = address
        self._timeout_s = calls.checked_timeout(timeout_s)
        self._channel = grpc.insecure_channel(address, options=calls.CHANNEL_OPTIONS)
        self._stub = pb_grpc.RankerServiceStub(self._channel)  # type: ignore[no-untyped-call, unused-ignore]

    def rerank(
        self,
        item_ids: Sequence[str],
        *,
        user_id: str | None = None,
        history: Sequence[Interaction] | None = None,
        top_k: int = 0,
        behavior: str = "",
        explain: bool = False,
        generation_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """These items in the order that suits the user, best first, ties by item id.

        Args:
            item_ids: Distinct. One that the server does not know comes last, with its status.
            user_id: A user whose history the store holds; else give `history`.
            history: What the user did, oldest first; empty for one of whom nothing is known.
            top_k: How many to return; 0 returns all.
            behavior: What is asked about, one of `info().behaviors`; empty for any choice.
            explain: Whether every returned item says what each block of vectors adds to its
                score; that costs as much as many more candidates.
            generation_id: The generation that must answer; empty takes the one that is served.
            request_id: Echoed in the answer and in the server's log; made up where empty.
            timeout_s: This call's deadline.
        """
        request = calls.rerank_request(
            item_ids,
            user_id=user_id,
            history=history,
            top_k=top_k,
            behavior=behavior,
            explain=explain,
            generation_id=generation_id,
            request_id=request_id,
        )
        return wire.from_answer(self._call(self._stub.Rerank, request, timeout_s))

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[Interaction] | None = None,
        top_k: int = 0,
        num_candidates: int = 0,
        exclude_item_ids: Sequence[str] = (),
        include_seen: bool = False,
        behavior: str = "",
        explain: bool = False,
        generation_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """The items of the whole catalog that suit the user best; further arguments as above.

        Args:
            user_id: A user whose history the store holds; else give `history`.
            history: What the user did, oldest first; empty for one of whom nothing is known.
            top_k: How many to return; 0 takes the server's default.
            num_candidates: How many to retrieve and rerank; 0 takes the server's default.
            exclude_item_ids: Items that must not be returned.
            include_seen: Whether items of the user's history may be returned.
            behavior: What is asked about, one of `info().behaviors`; empty for any choice.
            explain: Whether every returned item says what each block of vectors adds to its score.
            generation_id: The generation that must answer; empty takes the one that is served.
            request_id: Echoed in the answer and in the server's log; made up where empty.
            timeout_s: This call's deadline.
        """
        request = calls.recommend_request(
            user_id=user_id,
            history=history,
            top_k=top_k,
            num_candidates=num_candidates,
            exclude_item_ids=exclude_item_ids,
            include_seen=include_seen,
            behavior=behavior,
            explain=explain,
            generation_id=generation_id,
            request_id=request_id,
        )
        return wire.from_answer(self._call(self._stub.Recommend, request, timeout_s))

    def info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """What is served, and what one request may ask."""
        return wire.from_info(self._call(self._stub.GetInfo, pb.GetInfoRequest(), timeout_s))

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        timeout_s = self._timeout_s if timeout_s is None else calls.checked_timeout(timeout_s)
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error


class AsyncRankerClient:
    """`RankerClient` for an event loop: the same calls and answers, each awaited."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = calls.checked_timeout(timeout_s)
        self._channel = grpc.aio.insecure_channel(address, options=calls.CHANNEL_OPTIONS)
        self._stub = pb_grpc.RankerServiceStub(self._channel)  # type: ignore[no-untyped-call, unused-ignore]

    async def rerank(
        self,
        item_ids: Sequence[str],
        *,
        user_id: str | None = None,
        history: Sequence[Interaction] | None = None,
        top_k: int = 0,
        behavior: str = "",
        explain: bool = False,
        generation_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """As `RankerClient.rerank`."""
        request = calls.rerank_request(
            item_ids,
            user_id=user_id,
            history=history,
            top_k=top_k,
            behavior=behavior,
            explain=explain,
            generation_id=generation_id,
            request_id=request_id,
        )
        return wire.from_answer(await self._call(self._stub.Rerank, request, timeout_s))

    async def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[Interaction] | None = None,
        top_k: int = 0,
        num_candidates: int = 0,
        exclude_item_ids: Sequence[str] = (),
        include_seen: bool = False,
        behavior: str = "",
        explain: bool = False,
        generation_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """As `RankerClient.recommend`."""
        request = calls.recommend_request(
            user_id=user_id,
            history=history,
            top_k=top_k,
            num_candidates=num_candidates,
            exclude_item_ids=exclude_item_ids,
            include_seen=include_seen,
            behavior=behavior,
            explain=explain,
            generation_id=generation_id,
            request_id=request_id,
        )
        return wire.from_answer(await self._call(self._stub.Recommend, request, timeout_s))

    async def info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """As `RankerClient.info`."""
        return wire.from_info(await self._call(self._stub.GetInfo, pb.GetInfoRequest(), timeout_s))

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close(grace=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        timeout_s = self._timeout_s if timeout_s is None else calls.checked_timeout(timeout_s)
        try:
            return await method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise calls.read_error(error, address=self._address) from error
