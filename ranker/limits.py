"""What the service accepts and where it listens: configuration in, refusals of nonsense out.

Light to import, so that settings can be read without loading gRPC. A limit is a promise to the
callers (they read it with GetInfo): a request beyond it is refused, never cut in silence.
"""

from dataclasses import dataclass, fields

DEFAULT_PORT = 50051  # the port that gRPC's own examples and tools take for granted


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """What one request may ask, and how many requests are held at once.

    Raises:
        ValueError: a limit below its least value, or a default beyond its own limit.
    """

    candidates: int = 500
    """Item ids of one Rerank, or candidates of one Recommend."""
    history: int = 200
    """Interactions of one inline history."""
    top_k: int = 500
    message_bytes: int = 4 * 1024 * 1024
    """Of one request; gRPC's own default."""
    id_length: int = 256
    """Characters of any one id."""
    exclude: int = 1000
    """Ids that one Recommend may exclude."""
    queue: int = 64
    """Requests that may wait for a worker; 0 refuses whatever cannot start at once."""
    workers: int = 1
    """Requests answered at the same time, one thread each."""
    default_candidates: int = 100
    """What Recommend retrieves where the request names no number."""
    default_top_k: int = 10
    """What Recommend returns where the request names no number."""
    explained: int = 50
    """Items returned by a request that asks for explanations: each costs as much as 31 candidates
    where it is in five blocks."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least = getattr(self, limit.name), 0 if limit.name == "queue" else 1
            if value < least:
                raise ValueError(f"limits.{limit.name} must be at least {least}, got {value}")
        for default, limit_name in (
            ("default_candidates", "candidates"),
            ("default_top_k", "top_k"),
        ):
            value, most = getattr(self, default), getattr(self, limit_name)
            if value > most:
                raise ValueError(
                    f"limits.{default} is {value}, beyond limits.{limit_name} = {most}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the server listens, and what it shows besides its service.

    Raises:
        ValueError: a port outside 0 to 65535, or a negative size or age.
    """

    host: str = "127.0.0.1"
    """The loopback by default: traffic is not encrypted, so opening it to others is a decision."""
    port: int = DEFAULT_PORT
    """0 picks a free one."""
    reflection: bool = True
    """Whether tools such as grpcurl may ask the server for its own description."""
    metrics_port: int | None = None
    """Prometheus metrics over HTTP; None serves none, 0 picks a free port."""
    metrics_host: str = "127.0.0.1"
    feature_cache_bytes: int = 512 * 2**20
    """What the server holds at most of the online store's rows; 0 asks the store every time."""
    history_age_s: float = 0.5
    """How old a user's history may be before it is read again: pushed events are seen that late."""
    prefix_cache_mib: int = 64
    """What the ranker holds at most of the histories that it read, for the same users' next
    requests; 0 reads each anew."""

    def __post_init__(self) -> None:
        for name in ("feature_cache_bytes", "history_age_s", "prefix_cache_mib"):
            if getattr(self, name) < 0:
                raise ValueError(f"server.{name} must not be negative, got {getattr(self, name)}")
        for name in ("port", "metrics_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise ValueError(f"server.{name} must be between 0 and 65535, got {port}")
