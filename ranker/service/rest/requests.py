"""Bodies of HTTP requests in, the wire's requests out.

A rerank's body has the shape that Cohere and Jina have made usual: a query and documents. Here the
query is a user and the documents are items, each named by its id. Whatever such a client sends
besides is passed over, so that it works unchanged; in a recommendation's body, which is ours
alone, an unknown field is refused.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from ranker.pb import ranker_pb2 as pb

Request = TypeVar("Request", pb.RerankRequest, pb.RecommendRequest)

# What fields of the wire are called in a body, the first that fits.
RECOMMEND_NAMES = (
    (r"user\.history\.interactions", "history"),
    (r"user\.user_id", "user_id"),
    (r"user", "user_id"),
    (r"recent\.interactions", "recent"),
)
RERANK_NAMES = (
    (r"user\.history\.interactions", "query.history"),
    (r"user\.user_id", "query"),
    (r"user", "query"),
    (r"recent\.interactions", "query.recent"),
    (r"recent", "query.recent"),
    (r"item_ids", "documents"),
    (r"top_k", "top_n"),
)


class Ours(BaseModel):
    """A misspelt field must not pass for a default."""

    model_config = ConfigDict(extra="forbid")


class Event(Ours):
    """One event of a user's history."""

    item_id: str
    behavior: str
    """Such as view, cart or purchase."""
    timestamp: AwareDatetime | None = None
    """ISO 8601 with its zone."""
    weight: float | None = None

    def message(self) -> pb.Interaction:
        """As the wire has it."""
        message = pb.Interaction(item_id=self.item_id, behavior=self.behavior, weight=self.weight)
        if self.timestamp is not None:
            message.timestamp.FromDatetime(self.timestamp)
        return message


class Whose(Ours):
    """A stored user, or a history that is sent along, oldest event first."""

    user_id: str | None = None
    history: list[Event] | None = None
    recent: list[Event] = []
    """With a user_id: events that the store may not hold yet."""

    @model_validator(mode="after")
    def _is_one(self) -> "Whose":
        if (self.user_id is None) == (self.history is None):
            raise ValueError("send either user_id or history")
        return self

    def fill(self, request: pb.RerankRequest | pb.RecommendRequest) -> None:
        """Writes whose next item is sought."""
        if self.history is None:
            request.user.user_id = self.user_id or ""
        else:
            request.user.history.interactions.extend(one.message() for one in self.history)
            request.user.history.SetInParent()
        if self.recent:
            request.recent.interactions.extend(one.message() for one in self.recent)


class Among(Ours):
    """The item's text in the column is one of the values."""

    column: str
    values: list[str]


class Between(Ours):
    """The item's number in the column lies in [low, high]; an absent end is open."""

    column: str
    low: float | None = None
    high: float | None = None


class Filter(Ours):
    """Which items may be answered with: all conditions must hold."""

    among: list[Among] = []
    between: list[Between] = []
    allow_item_ids: list[str] = []
    deny_item_ids: list[str] = []

    def message(self) -> pb.Filter:
        """As the wire has it."""
        return pb.Filter(
            among=[pb.Filter.Among(column=one.column, values=one.values) for one in self.among],
            between=[
                pb.Filter.Between(column=one.column, low=one.low, high=one.high)
                for one in self.between
            ],
            allow_item_ids=self.allow_item_ids,
            deny_item_ids=self.deny_item_ids,
        )


class How(BaseModel):
    """What both requests may say of how to answer; all of it may be left out."""

    request_id: str = ""
    """Echoed, also in the log; made up where it is empty. The header x-request-id says it too."""
    generation_id: str = ""
    """Which generation must answer; empty takes whichever is served."""
    behavior: str = ""
    """What is asked about, one of /v1/info's behaviors; empty asks for any choice."""
    filter: Filter | None = None
    weights: dict[str, float] = {}
    """How much blocks of vectors count for this request, by name."""
    anytime: bool = False
    """Out of time, answer with what is scored so far rather than not at all."""
    text: str = ""
    """Who asks or what for, in words that the LLM reads before the history."""

    def filled(self, request: Request) -> Request:
        """The request with all of this."""
        request.request_id = self.request_id
        request.generation_id = self.generation_id
        request.behavior = self.behavior
        request.anytime = self.anytime
        request.text = self.text
        request.weights.update(self.weights)
        if self.filter is not None:
            request.filter.CopyFrom(self.filter.message())
        return request


def _as_whose(query: Any) -> Any:
    """A text is a user's id, unless it is a JSON object."""
    if not isinstance(query, str):
        return query
    if not query.lstrip().startswith("{"):
        return {"user_id": query}
    try:
        return json.loads(query)
    except (ValueError, RecursionError):
        raise ValueError(
            'neither a user id nor a JSON object such as {"history": []}; a user id that begins '
            'with a brace goes into {"user_id": "..."}'
        ) from None


def _as_item_id(document: Any) -> Any:
    """A document is an item's id, as it is or under `id` or `text`."""
    if not isinstance(document, dict):
        return document
    found = document.get("id", document.get("text"))
    if not isinstance(found, str):
        raise ValueError('a document is an item id, or an object that has it as "id" or as "text"')
    return found


TEXT = {"type": "string"}
Query = Annotated[
    Whose,
    BeforeValidator(_as_whose),
    WithJsonSchema(
        {"anyOf": [TEXT, {"type": "object"}], "examples": ["ada", {"history": []}]},
        mode="validation",
    ),
]
Document = Annotated[
    str,
    BeforeValidator(_as_item_id),
    WithJsonSchema({"anyOf": [TEXT, {"type": "object", "properties": {"id": TEXT, "text": TEXT}}]}),
]


class RerankBody(How):
    """Items to be put in order for one user."""

    model: str = ""
    """Echoed; the served generation answers whatever it says."""
    query: Query
    """A user's id; or an object, as JSON or as a text of JSON, with user_id or history (a list of
    events, oldest first), and recent."""
    documents: list[Document]
    """Item ids, or objects with an id; one that is there twice is answered twice."""
    top_n: int | None = Field(default=None, ge=1)
    """How many results to return; all by default."""
    return_documents: bool = False
    """Whether results repeat their document, with the item's title."""

    def message(self) -> pb.RerankRequest:
        """The Rerank of these documents, each once; all of them are asked for."""
        request = self.filled(pb.RerankRequest(item_ids=dict.fromkeys(self.documents)))
        self.query.fill(request)
        return request

    def field(self, wire_name: str) -> str:
        """What a field of the wire is called here."""
        name = _renamed(wire_name, RERANK_NAMES)
        number = re.fullmatch(r"documents\[(\d+)\]", name)
        if number is None:
            return name
        item_id = list(dict.fromkeys(self.documents))[int(number[1])]
        return f"documents[{self.documents.index(item_id)}]"


class RecommendBody(How, Whose):
    """A user for whom items are found and put in order."""

    top_k: int = Field(default=0, ge=0, lt=2**31)
    """How many to return; 0 takes the server's default."""
    num_candidates: int = Field(default=0, ge=0, lt=2**31)
    """How many to retrieve and rerank; 0 takes the server's default."""
    exclude_item_ids: list[str] = []
    include_seen: bool = False
    explain: bool = False

    def message(self) -> pb.RecommendRequest:
        """The Recommend of this body."""
        request = self.filled(
            pb.RecommendRequest(
                top_k=self.top_k,
                num_candidates=self.num_candidates,
                exclude_item_ids=self.exclude_item_ids,
                include_seen=self.include_seen,
                explain=self.explain,
            )
        )
        self.fill(request)
        return request

    def field(self, wire_name: str) -> str:
        """What a field of the wire is called here."""
        return _renamed(wire_name, RECOMMEND_NAMES)


def _renamed(wire_name: str, names: Sequence[tuple[str, str]]) -> str:
    for pattern, name in names:
        found, count = re.subn(rf"^{pattern}(?!\w)", name, wire_name)
        if count:
            return found
    return wire_name
