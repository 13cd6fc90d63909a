"""Requests in, checked queries out: every field at fault is told at once.

Ids are opaque: any text that is not empty and not longer than the limit. Whether the store or the
catalog knows them is not decided here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses
from ranker.serving import unaskable
from retrieval.candidates import Query


@dataclass(slots=True)
class Complaints:
    """Collects (field's path, what to mend) until all fields are looked at."""

    limits: ServiceLimits
    behaviors: Sequence[str] = ()
    """What may be asked about."""
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, mend: str) -> None:
        self.found.append((path, mend))

    def check_id(self, path: str, value: str) -> None:
        """An id: not empty, not too long."""
        if not value:
            self.add(path, "empty; an id is needed")
        else:
            self.check_length(path, value)

    def check_length(self, path: str, value: str) -> None:
        """At most the limit's characters."""
        if len(value) > self.limits.id_length:
            self.add(path, f"{len(value)} characters, at most {self.limits.id_length} are allowed")

    def check_at_most(self, path: str, value: int, limit: int) -> None:
        """A count within its limit."""
        if value > limit:
            self.add(path, f"{value}, at most {limit} is allowed")

    def check_behavior(self, behavior: str) -> None:
        """One that may be asked about, or none."""
        if behavior and behavior not in self.behaviors:
            self.add("behavior", unaskable(statuses.shortened(behavior), self.behaviors))

    def check_explained(self, num_explained: int) -> None:
        """As many items as may be explained at once."""
        if num_explained > self.limits.explained:
            self.add(
                "explain",
                f"of {num_explained} items, at most {self.limits.explained} are allowed; "
                f"ask for a smaller top_k",
            )

    def raise_any(self) -> None:
        """Raises INVALID_ARGUMENT where anything was found."""
        if self.found:
            raise statuses.invalid(self.found)


def read_rerank(
    request: pb.RerankRequest, limits: ServiceLimits, *, behaviors: Sequence[str] = ()
) -> Query:
    """The query of a Rerank; the items stay in the request.

    Args:
        request: As it came.
        limits: What it may ask for.
        behaviors: Those that it may ask about.

    Raises:
        StatusError: INVALID_ARGUMENT, naming every field at fault.
    """
    complaints = Complaints(limits, behaviors)
    _check_user(request.user, complaints)
    if not request.item_ids:
        complaints.add("item_ids", "empty; send the items to order")
    _check_item_ids("item_ids", request.item_ids, complaints, limit=limits.candidates)
    _check_distinct("item_ids", request.item_ids, complaints)
    complaints.check_at_most("top_k", request.top_k, limits.top_k)
    complaints.check_length("request_id", request.request_id)
    complaints.check_length("generation_id", request.generation_id)
    complaints.check_behavior(request.behavior)
    if request.explain:
        complaints.check_explained(request.top_k or len(request.item_ids))
    complaints.raise_any()
    # Whoever brings the candidates decides what may be shown again.
    return _query(request, exclude_seen=False, exclude=frozenset())


def read_recommend(
    request: pb.RecommendRequest, limits: ServiceLimits, *, behaviors: Sequence[str] = ()
) -> tuple[Query, int, int]:
    """The query of a Recommend, how many to retrieve, and how many to return.

    Args:
        request: As it came.
        limits: What it may ask for.
        behaviors: Those that it may ask about.

    Raises:
        StatusError: INVALID_ARGUMENT, naming every field at fault.
    """
    complaints = Complaints(limits, behaviors)
    top_k = request.top_k or limits.default_top_k
    # A small limit on candidates also bounds what a default may ask for.
    default = max(limits.default_candidates, min(top_k, limits.candidates))
    num_candidates = request.num_candidates or default
    _check_user(request.user, complaints)
    complaints.check_at_most("top_k", request.top_k, limits.top_k)
    complaints.check_at_most("num_candidates", num_candidates, limits.candidates)
    if num_candidates < top_k:
        complaints.add(
            "num_candidates", f"{num_candidates}, fewer than the top_k of {top_k} to return"
        )
    _check_item_ids("exclude_item_ids", request.exclude_item_ids, complaints, limit=limits.exclude)
    complaints.check_length("request_id", request.request_id)
    complaints.check_length("generation_id", request.generation_id)
    complaints.check_behavior(request.behavior)
    if request.explain:
        complaints.check_explained(top_k)
    complaints.raise_any()
    query = _query(
        request,
        exclude_seen=not request.include_seen,
        exclude=frozenset(request.exclude_item_ids),
    )
    return query, num_candidates, top_k


def _query(
    request: pb.RerankRequest | pb.RecommendRequest, *, exclude_seen: bool, exclude: frozenset[str]
) -> Query:
    user = request.user
    is_stored = user.WhichOneof("identity") == "user_id"
    return Query(
        user_id=user.user_id,
        history=None if is_stored else wire.from_history(user.history),
        exclude_seen=exclude_seen,
        exclude=exclude,
        behavior=request.behavior or None,
    )


def _check_user(user: pb.User, complaints: Complaints) -> None:
    match user.WhichOneof("identity"):
        case "user_id":
            complaints.check_id("user.user_id", user.user_id)
        case "history":
            _check_history(user.history, complaints)
        case _:
            complaints.add("user", "missing; send user_id or history")


def _check_history(history: pb.History, complaints: Complaints) -> None:
    path = "user.history.interactions"
    if len(history.interactions) > complaints.limits.history:
        complaints.check_at_most(path, len(history.interactions), complaints.limits.history)
        return  # looking at each of too many is what the limit is there to spare
    for position, event in enumerate(history.interactions):
        complaints.check_id(f"{path}[{position}].item_id", event.item_id)
        complaints.check_id(f"{path}[{position}].behavior", event.behavior)
        if event.HasField("weight") and not math.isfinite(event.weight):
            complaints.add(f"{path}[{position}].weight", f"{event.weight}, a number is needed")
        if event.HasField("timestamp"):
            try:
                event.timestamp.ToDatetime()
            except ValueError as error:
                complaints.add(f"{path}[{position}].timestamp", str(error))


def _check_item_ids(
    path: str, item_ids: Sequence[str], complaints: Complaints, *, limit: int
) -> None:
    if len(item_ids) > limit:
        complaints.check_at_most(path, len(item_ids), limit)
        return
    for place, item_id in enumerate(item_ids):
        complaints.check_id(f"{path}[{place}]", item_id)


def _check_distinct(path: str, item_ids: Sequence[str], complaints: Complaints) -> None:
    first_places: dict[str, int] = {}
    for place, item_id in enumerate(item_ids[: complaints.limits.candidates]):
        first = first_places.setdefault(item_id, place)
        if item_id and first != place:
            complaints.add(f"{path}[{place}]", f"{statuses.shown(item_id)} stands at {first} too")
