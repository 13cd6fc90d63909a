"""Who is told of requests follows from the settings."""

import sys

import pytest

from ranker.limits import ServerConfig
from ranker.service.metrics import Metrics
from ranker.service.observing import Observing


def test_metrics_are_always_told_the_log_and_traces_when_asked_for() -> None:
    assert len(Observing(ServerConfig(), Metrics()).observers) == 1
    config = ServerConfig(log_requests=True, traces="http://127.0.0.1:1")
    observing = Observing(config, Metrics())
    assert len(observing.observers) == 3
    observing.close()


def test_traces_without_opentelemetry_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ranker.service.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 'sommelier\[observe\]'"):
        Observing(ServerConfig(traces="http://127.0.0.1:1"), Metrics())
