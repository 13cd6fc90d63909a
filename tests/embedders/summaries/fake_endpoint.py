"""An OpenAI-compatible server of the tests' own: a real one on the loopback, answering by rule."""

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    text: str
    """The user's words, without pictures and sounds."""
    num_before: int
    """How often the same words came before."""
    at: float
    """When, by a clock that only goes forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is sent back, or how it goes wrong."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    is_dropped: bool = False
    """The connection ends without a word."""
    pause_s: float = 0.0
    """Between the bytes of the body, one by one."""
    is_silent: bool = False
    """Nothing at all, until the server is closed."""


def completion(text: str | None, *, finish: str = "stop", **message: Any) -> Reply:
    """A chat completion of three tokens read and two written."""
    choice = {"index": 0, "finish_reason": finish, "message": {"content": text, **message}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return Reply(body=json.dumps({"id": "1", "choices": [choice], "usage": usage}).encode())


def failure(status: int, words: str = "", **headers: str) -> Reply:
    """An error as OpenAI's; it asks for a short wait, so that tests need not take a long one."""
    body = json.dumps({"error": {"message": words, "type": "trouble"}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=body, headers={"retry-after": "0.01", **named})


def models(*stated: dict[str, Any]) -> Reply:
    """A list of models."""
    return Reply(body=json.dumps({"object": "list", "data": list(stated)}).encode())


class FakeEndpoint(ThreadingHTTPServer):
    """Answers each prompt with its own words in capitals, until told otherwise."""

    daemon_threads = True

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self.listing = models({"id": "m", "object": "model", "created": 1, "owned_by": "me"})
        self.answer: Callable[[Asked], Reply] = lambda asked: completion(asked.text.upper())
        self.num_tokens_of_files = 5  # of each; a server that sees nothing counts none
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self.closing = threading.Event()
        self._num_now = 0
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def prompts(self) -> list[Asked]:
        """All chat completions asked for, but for plain questions."""
        return [one for one in self.asked if one.body and not is_plain(one)]

    def __enter__(self) -> "FakeEndpoint":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if not self.closing.is_set():
            self.closing.set()
            self.shutdown()
            self.server_close()

    def reply(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        """Note a request, and find its answer; several at once."""
        text = _words(body)
        with self._lock:
            before = self._before[text]
            self._before[text] += 1
            asked = Asked(
                path=path,
                headers=headers,
                body=body,
                text=text,
                num_before=before,
                at=time.monotonic(),
            )
            self.asked.append(asked)
            self._num_now += 1
            self.most_at_once = max(self.most_at_once, self._num_now)
        try:
            return self.listing if path.endswith("/models") else self._counted(asked)
        finally:
            with self._lock:
                self._num_now -= 1

    def _counted(self, asked: Asked) -> Reply:
        """The answer, its tokens counted with the files'."""
        reply = self.answer(asked)
        content = asked.body["messages"][-1]["content"]
        num_files = 0 if isinstance(content, str) else len(content) - 1
        num_tokens = 3 + num_files * self.num_tokens_of_files
        counted = reply.body.replace(
            b'"prompt_tokens": 3', f'"prompt_tokens": {num_tokens}'.encode()
        )
        return replace(reply, body=counted)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what some tests are about."""


def is_plain(asked: Asked) -> bool:
    """Whether it is the writer's own question."""
    return asked.text.endswith("Say yes.")


def _words(body: dict[str, Any]) -> str:
    if not body:
        return ""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEndpoint

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self._answer(json.loads(self.rfile.read(length)))

    def _answer(self, body: dict[str, Any]) -> None:
        if self.server.closing.is_set():  # a connection kept from before
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.reply(self.path, headers, body)
        if reply.is_silent:
            self.server.closing.wait(60)
        if reply.is_silent or reply.is_dropped:
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not reply.pause_s:
            self.wfile.write(reply.body)
            return
        for byte in reply.body:
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(reply.pause_s):
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Tests ask the server itself what it got."""
