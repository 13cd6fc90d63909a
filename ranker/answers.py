"""What the client hands back: the wire's answers as nouns, its errors as one exception.

Light to import: neither gRPC nor generated code is needed to hold an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ranker.limits import ServiceLimits
from ranker.ranking import RankedItem, Ranking
from ranker.serving import ServingInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the server's time went, in milliseconds; the network is not in it."""

    queue_ms: float
    retrieve_ms: float
    rerank_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TitledItem(RankedItem):
    """One item of a remote answer, with its title; empty for an unknown item."""

    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Ranking):
    """A remote ranking: whatever takes a local `Ranking` takes this too."""

    items: tuple[TitledItem, ...]
    request_id: str
    timings: Timings
    is_degraded: bool = False
    """Whether time ran out before all were scored, or the history was older than it should be."""
    is_final: bool = True
    """Whether no better one follows; False of all but the last of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo(ServingInfo):
    """The facts of the generation that is served, and what one request may ask of it."""

    limits: ServiceLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One field of the request, and what to mend in it."""

    field: str
    """Its path, e.g. `item_ids[3]`."""
    description: str


class RankerError(Exception):
    """The server refused, failed, or could not be reached; the text is fit to show to a person.

    Attributes:
        code: gRPC's name of the status, e.g. `NOT_FOUND`.
        reason: The service's own reason, e.g. `UNKNOWN_USER`; the code again where none was sent.
        message: What happened and what to do, in a sentence.
        violations: The fields of the request that are at fault.
        retry_after_s: When to try again; None where the server gave no advice.
        metadata: Facts of the reason, e.g. the generation that is served.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        mend = "".join(f"\n  {bad.field}: {bad.description}" for bad in self.violations)
        return f"{self.code} ({self.reason}): {self.message}{mend}"
