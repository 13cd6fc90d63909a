"""Log records and ended requests in, lines of JSON or text out; a slow reader holds nobody up.

A JSON line is one object: `time` (UTC), `level`, `logger`, `message`, `error` with the traceback
where there is one, and for a request `request_id`, `caller`, `method`, `protocol`, `code`,
`reason`, `ms` and what its answer says. JSON escapes whatever a caller sent, and a line of text
quotes it, so that nobody writes lines of their own. What was asked is not logged, nor any token.
"""

import json
import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from ranker.limits import LOG_FORMATS
from ranker.service.exchange import Answer, Exchange

ROOMS = ("embedders", "feature_repo", "retrieval", "ranker", "evaluation", "sommelier")
HELD_LINES = 10_000  # while the reader is busy; further ones are dropped, and counted
PATIENCE_S = 2.0  # for the reader, when the log is closed
SHOWN_CHARACTERS = 256  # of an id; longer ones are refused by default

requests = logging.getLogger("ranker.requests")


class RequestLog:
    """One line for each request that ended; an observer of exchanges."""

    def observe(self, exchange: Exchange) -> None:
        """Writes it, with its facts as the record's `request`."""
        if not requests.isEnabledFor(logging.INFO):
            return
        facts = _facts(exchange)
        requests.info(
            "%s %s in %.1f ms, request %r of %r",
            exchange.method,
            exchange.reason or exchange.code,
            facts["ms"],
            facts["request_id"],
            exchange.caller,
            extra={"request": facts},
        )


class JsonFormatter(logging.Formatter):
    """One record, one object, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts = getattr(record, "request", None)
        if isinstance(facts, Mapping):
            line |= facts
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # ASCII only: a reader may take other characters, such as U+2028, for a line's end.
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class LineWriter(logging.Handler):
    """Writes in a thread of its own, so that a full pipe stops neither the loop nor a worker."""

    def __init__(self, stream: TextIO, *, held_lines: int = HELD_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(held_lines)
        self.num_dropped = 0
        self._num_told = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands the line over, or drops it where the reader is too far behind."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.num_dropped += 1
        except Exception:  # a record that cannot be formatted
            self.handleError(record)

    def close(self) -> None:
        """Writes what is held, as far as the reader takes it within the patience."""
        if self._thread.is_alive():
            try:
                self._lines.put(None, timeout=PATIENCE_S)
            except queue.Full:
                self.num_dropped += self._lines.qsize()
            else:
                self._thread.join(PATIENCE_S)
        super().close()

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._stream.write(f"{line}\n")
                if self._lines.empty():
                    self._tell_dropped()
            self._tell_dropped()
        except (OSError, ValueError):
            return  # the stream is closed, and there is nowhere to say so

    def _tell_dropped(self) -> None:
        """How many lines were lost, where more are than was told last; nothing is held back."""
        if self.num_dropped > self._num_told:
            self._num_told = self.num_dropped
            record = logging.makeLogRecord(
                {"name": __name__, "levelname": "WARNING", "msg": _dropped(self._num_told)}
            )
            self._stream.write(f"{self.format(record)}\n")
        self._stream.flush()


@contextmanager
def written(stream: TextIO, *, form: str) -> Iterator[LineWriter]:
    """`write` while inside; what is held is written on leaving."""
    levels = [logging.getLogger(room).level for room in ROOMS]
    writer = write(stream, form=form)
    try:
        yield writer
    finally:
        for room, level in zip(ROOMS, levels, strict=True):
            logging.getLogger(room).setLevel(level)
        logging.getLogger().removeHandler(writer)
        writer.close()


def write(stream: TextIO, *, form: str) -> LineWriter:
    """All log records go to the stream from now on, our rooms' from INFO on.

    Args:
        stream: Where to.
        form: One of `LOG_FORMATS`.

    Raises:
        ValueError: another format.
    """
    if form not in LOG_FORMATS:
        raise ValueError(f"a log is written as {' or '.join(LOG_FORMATS)}, got {form!r}")
    writer = LineWriter(stream)
    writer.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.getLogger().addHandler(writer)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    return writer


def _facts(exchange: Exchange) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": exchange.request_id[:SHOWN_CHARACTERS],
        "caller": exchange.caller,
        "method": exchange.method,
        "protocol": exchange.protocol,
        "code": exchange.code,
        "reason": exchange.reason,
        "ms": round(exchange.seconds * 1e3, 3),
    }
    if exchange.trace_id:
        facts["trace_id"] = exchange.trace_id
    if exchange.first_s is not None:
        facts["first_ms"] = round(exchange.first_s * 1e3, 3)
        facts["messages"] = exchange.num_messages
    if exchange.answer is not None:
        facts |= _answered(exchange.answer)
    return facts


def _answered(answer: Answer) -> dict[str, Any]:
    timings = answer.timings
    return {
        "queue_ms": round(timings.queue_ms, 3),
        "retrieve_ms": round(timings.retrieve_ms, 3),
        "rerank_ms": round(timings.rerank_ms, 3),
        "generation_id": answer.generation_id,
        "items": len(answer.items),
        "scored": answer.scored_count,
        "degraded": answer.degraded,
    }


def _dropped(number: int) -> str:
    return f"{number} lines were dropped in all: whoever reads this log is too slow"
