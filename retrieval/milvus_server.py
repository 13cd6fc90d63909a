"""Where a Milvus server listens, and how long it is waited for; light, to be configured with."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusServer:
    """One server, or the proxy of a cluster."""

    uri: str = "http://localhost:19530"
    """`http://` or `https://`, without a name and a password: index files keep it."""
    token: str = field(default="", repr=False)
    """`user:password` or an API key; kept in memory alone."""
    timeout_s: float = 30
    """How long one call may take."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(
                "a Milvus server's uri is http://host:port or https://host:port, its user and "
                "password are given as the token"
            )
        if not 0 < self.timeout_s < float("inf"):
            raise ValueError(f"timeout_s must be positive, got {self.timeout_s}")
