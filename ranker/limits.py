"""What the service accepts and where it listens: configuration in, refusals of nonsense out.

Light to import, so that settings can be read without loading gRPC. A limit is a promise to the
callers (they read it with GetInfo): a request beyond it is refused, never cut in silence.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from retrieval import filters

LOG_FORMATS = ("text", "json")
DEFAULT_PORT = 50051  # the port that gRPC's own examples and tools take for granted
FILTER_CAN_HOLD = {
    "filter_conditions": filters.MAX_CONDITIONS,
    "filter_values": filters.MAX_VALUES,
    "filter_item_ids": filters.MAX_IDS,
}
DEVICE = re.compile(r"cuda:(\d{1,4})")
MAY_BE_NONE = {"queue", "text_length", "vector_bytes", *FILTER_CAN_HOLD}


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
    text_length: int = 2000
    """Characters of the text that a request brings; 0 refuses any."""
    vector_bytes: int = 2 * 1024 * 1024
    """Of all vectors that one request brings; 0 refuses any."""
    filter_conditions: int = 32
    """Conditions of one filter; 0 refuses any."""
    filter_values: int = 1000
    """Values in all conditions of one filter; 0 refuses any."""
    filter_item_ids: int = 10_000
    """Items that one filter may name; 0 refuses any."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least = getattr(self, limit.name), 0 if limit.name in MAY_BE_NONE else 1
            if value < least:
                raise ValueError(f"limits.{limit.name} must be at least {least}, got {value}")
        for name, most in FILTER_CAN_HOLD.items():
            if getattr(self, name) > most:
                raise ValueError(f"limits.{name} must be at most {most}, got {getattr(self, name)}")
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
        ValueError: a port outside 0 to 65535, a negative size or age, a number of nothing at all,
            no GPU's name, or half of what TLS needs.
    """

    host: str = "127.0.0.1"
    """The loopback by default; any other needs TLS, or insecure = true."""
    port: int = DEFAULT_PORT
    """0 picks a free one."""
    reflection: bool = True
    """Whether tools such as grpcurl may ask the server for its own description."""
    metrics_port: int | None = None
    """Prometheus metrics over HTTP; None serves none, 0 picks a free port."""
    metrics_host: str = "127.0.0.1"
    log_requests: bool = False
    """Whether each request that has ended writes a line into the log."""
    log_format: str = "text"
    """`text` for people, or `json`: one object a line."""
    traces: str | None = None
    """Where OpenTelemetry spans go: the URL of an OTLP collector that speaks gRPC, such as
    http://127.0.0.1:4317; None sends none. Needs sommelier[observe]."""
    traces_share: float = 0.01
    """How many of the requests that come without a trace begin a recorded one, in [0, 1]."""
    rest_port: int | None = None
    """The same service over HTTP and JSON; None serves none, 0 picks a free port. Needs
    sommelier[rest]."""
    rest_host: str = "127.0.0.1"
    rest_timeout_s: float = 5.0
    """The deadline of HTTP requests that name none in x-timeout-ms."""
    processes: int = 0
    """Worker processes, each with a generation of its own in memory; 0 computes in threads of the
    server's process, as many as limits.workers."""
    devices: tuple[str, ...] = ()
    """GPUs such as "cuda:0", for worker processes: the first one's, the second one's, and around
    again; each sees its own alone. Without any, all that there are, where ranker.llm.device leaves
    the choice."""
    grace_s: float = 5.0
    """How long requests under way may take to end when the server is told to stop."""
    feature_cache_bytes: int = 512 * 2**20
    """What the server holds at most of the online store's rows; 0 asks the store every time."""
    history_age_s: float = 0.5
    """How old a user's history may be before it is read again: pushed events are seen that late."""
    stale_history_s: float = 300.0
    """How old it may be while the online store does not answer; such answers say degraded, and
    beyond it a user's requests are UNAVAILABLE."""
    follow_s: float = 2.0
    """How often the server looks which generation CURRENT names, to load and serve it; 0 keeps the
    one that it began with."""
    prefix_cache_mib: int = 64
    """What the ranker holds at most of the histories that it read, for the same users' next
    requests; 0 reads each anew."""
    insecure: bool = False
    """Whether others may reach the server without TLS, where something in front of it encrypts."""
    tls_certificate: Path | None = None
    """A chain of certificates in PEM, the server's own first; read anew when the file changes."""
    tls_key: Path | None = None
    """Its private key in PEM, without a password."""
    tls_client_ca: Path | None = None
    """Who vouches for callers, in PEM: each then needs a certificate, which also names them."""
    callers: Path | None = None
    """A file of those who may call, which `sommelier token` writes: each then needs a token, or a
    certificate that it names. Read anew when it changes."""
    requests_per_s: float | None = None
    """What each caller without a rate of their own may ask in the long run; None sets no rate.
    Where callers are not told apart, all of them together."""
    burst: int | None = None
    """What each may ask at once, after a pause; None takes a second's requests."""
    connections: int = 1000
    """Held at once; further ones are turned away."""
    streams: int = 256
    """Calls at once on one connection; further ones wait at the caller's."""
    connection_age_s: float = 1800.0
    """How old a connection may become before it is closed, its calls ended first; callers open
    another one by themselves. 0 sets no end."""
    keepalive_s: float = 60.0
    """After so much silence a connection is asked whether somebody is there."""

    def __post_init__(self) -> None:
        self._check_security()
        for name in (
            *("feature_cache_bytes", "history_age_s", "stale_history_s", "follow_s"),
            *("prefix_cache_mib", "processes", "grace_s"),
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"server.{name} must not be negative, got {getattr(self, name)}")
        self._check_devices()
        self._check_observing()
        for name in ("port", "metrics_port", "rest_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise ValueError(f"server.{name} must be between 0 and 65535, got {port}")

    def _check_devices(self) -> None:
        for device in self.devices:
            if not DEVICE.fullmatch(device):
                raise ValueError(f"server.devices are GPUs such as cuda:0, got {device!r}")
        if self.devices and not self.processes:
            raise ValueError("server.devices belongs to server.processes: set both")

    def _check_security(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("server.tls_certificate and server.tls_key belong together: set both")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("server.tls_client_ca needs server.tls_certificate and server.tls_key")
        if self.requests_per_s is not None and not 0 < self.requests_per_s < float("inf"):
            raise ValueError(f"server.requests_per_s must be above 0, got {self.requests_per_s}")
        if self.burst is not None and self.requests_per_s is None:
            raise ValueError("server.burst belongs to server.requests_per_s: set both")
        for name in ("burst", "connections", "streams", "keepalive_s"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"server.{name} must be at least 1, got {value}")
        if self.connection_age_s < 0:
            raise ValueError(
                f"server.connection_age_s must not be negative, got {self.connection_age_s}"
            )

    def _check_observing(self) -> None:
        if self.log_format not in LOG_FORMATS:
            allowed = ", ".join(LOG_FORMATS)
            raise ValueError(f"server.log_format must be one of {allowed}, got {self.log_format!r}")
        if self.traces is not None and not self.traces.startswith(("http://", "https://")):
            raise ValueError(f"server.traces must be a URL of http or https, got {self.traces!r}")
        if not 0 <= self.traces_share <= 1:
            raise ValueError(f"server.traces_share must be in [0, 1], got {self.traces_share}")
        if not 0 < self.rest_timeout_s < float("inf"):
            raise ValueError(f"server.rest_timeout_s must be above 0, got {self.rest_timeout_s}")
