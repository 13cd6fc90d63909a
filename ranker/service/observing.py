"""Settings in, those who are told of every ended request out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranker.limits import ServerConfig
from ranker.service.exchange import Observer
from ranker.service.logs import RequestLog
from ranker.service.metrics import Metrics

if TYPE_CHECKING:
    from ranker.service.tracing import Tracing

OBSERVE = "traces need OpenTelemetry: pip install 'sommelier[observe]', or unset server.traces"


class Observing:
    """The observers of one server."""

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Metrics always, traces and one log line a request where the settings ask for them.

        Raises:
            ImportError: traces are asked for and OpenTelemetry is not installed.
        """
        self.metrics = metrics
        self._tracing = _tracing(config)

        observers: list[Observer] = [metrics.observe]
        if self._tracing is not None:
            observers.append(self._tracing.observe)  # before the log, which tells the trace
        if config.log_requests:
            observers.append(RequestLog().observe)
        self.observers: Sequence[Observer] = observers

    def close(self) -> None:
        """Stops serving metrics, and exports what traces are held; blocks meanwhile."""
        self.metrics.close()
        if self._tracing is not None:
            self._tracing.close()


def _tracing(config: ServerConfig) -> "Tracing | None":
    if config.traces is None:
        return None
    try:
        from ranker.service.tracing import exporting
    except ImportError as error:
        raise ImportError(OBSERVE) from error
    return exporting(config.traces, share=config.traces_share)
