"""Limits and ports that make no sense are refused where they are written down."""

from pathlib import Path
from typing import Any

import pytest

from ranker.limits import ServerConfig, ServiceLimits


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"workers": 0}, "limits.workers must be at least 1, got 0"),
        ({"queue": -1}, "limits.queue must be at least 0, got -1"),
        ({"text_length": -1}, "limits.text_length must be at least 0, got -1"),
        ({"filter_values": 1001}, "limits.filter_values must be at most 1000, got 1001"),
        ({"candidates": 50}, "limits.default_candidates is 100, beyond limits.candidates = 50"),
        ({"top_k": 5}, "limits.default_top_k is 10, beyond limits.top_k = 5"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limits: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match="limits") as refused:
        ServiceLimits(**limits)
    assert str(refused.value) == told


@pytest.mark.parametrize("name", ["port", "metrics_port", "rest_port"])
@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_within_its_range(name: str, port: int) -> None:
    with pytest.raises(ValueError, match=f"server.{name} must be between 0 and 65535, got {port}"):
        ServerConfig(**{name: port})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["feature_cache_bytes", "history_age_s", "prefix_cache_mib"])
def test_the_cache_has_no_negative_size_or_age(name: str) -> None:
    with pytest.raises(ValueError, match=f"server.{name} must not be negative, got -1"):
        ServerConfig(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tls_key": Path("k")}, "server.tls_certificate and server.tls_key belong together"),
        ({"tls_certificate": Path("c")}, "server.tls_certificate and server.tls_key belong"),
        ({"tls_client_ca": Path("a")}, "server.tls_client_ca needs server.tls_certificate"),
        ({"requests_per_s": 0.0}, "server.requests_per_s must be above 0, got 0.0"),
        ({"requests_per_s": float("nan")}, "server.requests_per_s must be above 0, got nan"),
        ({"burst": 3}, "server.burst belongs to server.requests_per_s"),
        ({"requests_per_s": 1.0, "burst": 0}, "server.burst must be at least 1, got 0"),
        ({"connections": 0}, "server.connections must be at least 1, got 0"),
        ({"streams": 0}, "server.streams must be at least 1, got 0"),
        ({"keepalive_s": 0.5}, "server.keepalive_s must be at least 1, got 0.5"),
        ({"devices": ("cuda:0",)}, "server.devices belongs to server.processes: set both"),
        ({"devices": ("cpu",), "processes": 1}, "server.devices are GPUs such as cuda:0, got"),
        ({"connection_age_s": -1.0}, "server.connection_age_s must not be negative, got -1.0"),
    ],
)
def test_half_a_protection_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="server") as refused:
        ServerConfig(**settings)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"log_format": "xml"}, "server.log_format must be one of text, json, got 'xml'"),
        ({"traces": "127.0.0.1:4317"}, "server.traces must be a URL of http or https, got"),
        ({"traces_share": 1.5}, r"server.traces_share must be in \[0, 1\], got 1.5"),
        ({"traces_share": float("nan")}, r"server.traces_share must be in \[0, 1\], got nan"),
        ({"rest_timeout_s": 0}, "server.rest_timeout_s must be above 0, got 0"),
        ({"rest_timeout_s": float("inf")}, "server.rest_timeout_s must be above 0, got inf"),
    ],
)
def test_how_a_server_is_watched_and_asked_over_http_must_make_sense(
    said: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ServerConfig(**said)
