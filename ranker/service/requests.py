"""Requests in, checked queries out: every field at fault is told at once.

`ranker.service.complaints` says what is wrong with single fields; here stands what each request
may ask, and what becomes of it.
"""

from ranker import inline, wire
from ranker.inline import InlineVectors
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service.complaints import Complaints
from ranker.serving import ServingInfo
from retrieval.candidates import Query


def read_rerank(
    request: pb.RerankRequest, limits: ServiceLimits, info: ServingInfo, *, within: str = ""
) -> tuple[Query, tuple[str, ...], InlineVectors | None]:
    """The query of a Rerank, its items, and the vectors that it brings for them.

    Args:
        request: As it came.
        limits: What it may ask for.
        info: What the generation that is to answer has to offer.
        within: What stands before the fields' paths, of a request inside another one.

    Raises:
        StatusError: INVALID_ARGUMENT, naming every field at fault; FAILED_PRECONDITION where the
            vectors are of spaces that the generation does not have.
    """
    complaints = Complaints(limits, info, within)
    item_ids = tuple(request.item_ids)  # once: every look at a message's ids makes them anew
    complaints.check_user(request.user, request.recent)
    if not item_ids:
        complaints.add("item_ids", "empty; send the items to order")
    if complaints.check_item_ids("item_ids", item_ids, limit=limits.candidates):
        complaints.check_distinct("item_ids", item_ids)
        complaints.check_vectors(request.vectors, item_ids)
    _check_rest(request, complaints)
    if request.explain:
        complaints.check_explained(request.top_k or len(item_ids))
    complaints.raise_any()
    # Whoever brings the candidates decides what may be shown again.
    query = _query(request, exclude_seen=False, exclude=frozenset())
    return query, item_ids, _vectors(request, info)


def read_recommend(
    request: pb.RecommendRequest, limits: ServiceLimits, info: ServingInfo
) -> tuple[Query, int, int]:
    """The query of a Recommend, how many to retrieve, and how many to return.

    Args:
        request: As it came.
        limits: What it may ask for.
        info: What the generation that is to answer has to offer.

    Raises:
        StatusError: INVALID_ARGUMENT, naming every field at fault.
    """
    complaints = Complaints(limits, info)
    top_k = request.top_k or limits.default_top_k
    # A small limit on candidates also bounds what a default may ask for.
    default = max(limits.default_candidates, min(top_k, limits.candidates))
    num_candidates = request.num_candidates or default
    complaints.check_user(request.user, request.recent)
    complaints.check_at_most("num_candidates", num_candidates, limits.candidates)
    if num_candidates < top_k:
        complaints.add(
            "num_candidates", f"{num_candidates}, fewer than the top_k of {top_k} to return"
        )
    exclude = list(request.exclude_item_ids)
    complaints.check_item_ids("exclude_item_ids", exclude, limit=limits.exclude)
    _check_rest(request, complaints)
    if request.explain:
        complaints.check_explained(top_k)
    complaints.raise_any()
    query = _query(request, exclude_seen=not request.include_seen, exclude=frozenset(exclude))
    return query, num_candidates, top_k


def _check_rest(request: pb.RerankRequest | pb.RecommendRequest, complaints: Complaints) -> None:
    """What both requests may hold, but for the user."""
    limits = complaints.limits
    complaints.check_at_most("top_k", request.top_k, limits.top_k)
    complaints.check_length("request_id", request.request_id, limits.id_length)
    complaints.check_length("generation_id", request.generation_id, limits.id_length)
    complaints.check_length("text", request.text, limits.text_length)
    complaints.check_behavior(request.behavior)
    complaints.check_weights(request.weights)
    if request.HasField("filter"):
        complaints.check_filter(request.filter)


def _query(
    request: pb.RerankRequest | pb.RecommendRequest, *, exclude_seen: bool, exclude: frozenset[str]
) -> Query:
    user = request.user
    is_stored = user.WhichOneof("identity") == "user_id"
    return Query(
        user_id=user.user_id,
        history=None if is_stored else wire.from_history(user.history),
        recent=wire.from_history(request.recent) if request.HasField("recent") else (),
        exclude_seen=exclude_seen,
        exclude=exclude,
        filters=wire.from_filter(request.filter) if request.HasField("filter") else None,
        weights=dict(request.weights) or None,
        behavior=request.behavior or None,
        text=request.text or None,
    )


def _vectors(request: pb.RerankRequest, info: ServingInfo) -> InlineVectors | None:
    if not request.vectors:
        return None
    spaces = {one.space_id: one for one in info.spaces}
    return InlineVectors(
        embeddings=tuple(inline.read(one, spaces[one.space_id]) for one in request.vectors)
    )
