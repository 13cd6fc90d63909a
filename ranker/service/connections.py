"""Settings in, gRPC's bounds on connections out, and whether a host may be listened on at all.

A caller who is slow, silent or hostile can hold what a connection may hold, for as long as it may
live: bounded are the connections, the calls on each, the size of messages and metadata, the time
of a handshake, the pings, and the age.
"""

import ipaddress

from ranker.limits import ServerConfig, ServiceLimits

HANDSHAKE_MS = 10_000  # gRPC's own two minutes let whoever says nothing hold a place for long
KEEPALIVE_TIMEOUT_MS = 20_000
AGE_GRACE_MS = 60_000  # for calls under way on a connection that has come of age
LEAST_PING_MS = 10_000  # callers who ping more often, three times, are turned away
METADATA_BYTES = 8 * 1024  # beyond it calls are refused more and more often
MOST_METADATA_BYTES = 16 * 1024  # beyond it always


def options(config: ServerConfig, limits: ServiceLimits) -> list[tuple[str, int]]:
    """The server's arguments; https://grpc.github.io/grpc/core/group__grpc__arg__keys.html."""
    age_ms = round(config.connection_age_s * 1000)
    return [
        # gRPC would let a second server share the port, and every other request go astray.
        ("grpc.so_reuseport", 0),
        # Also of what a compressed message becomes.
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MOST_METADATA_BYTES),
        ("grpc.max_allowed_incoming_connections", config.connections),
        ("grpc.max_concurrent_streams", config.streams),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        *([("grpc.max_connection_age_ms", age_ms)] if age_ms else []),
        ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
        ("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        # Without it gRPC (1.85) waits a minute for the answer to a ping, whatever the line above.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ("grpc.http2.max_ping_strikes", 2),
    ]


def check_exposure(host: str, config: ServerConfig) -> None:
    """Whether others may reach this host as the settings are.

    Raises:
        ValueError: they may, and nothing is encrypted.
    """
    if config.insecure or config.tls_certificate is not None or is_loopback(host):
        return
    raise ValueError(
        f"listening on {host} without TLS lets others read and change what is sent: set "
        "server.tls_certificate and server.tls_key, or server.insecure = true where something in "
        "front encrypts"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may mean any address
