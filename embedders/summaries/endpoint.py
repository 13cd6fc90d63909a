"""Messages to a server in, its completion or why there is none out.

Busy and broken answers (408, 409, 429, 5xx, no answer in time, a lost connection) are asked for
again by OpenAI's own client: after half a second, one, two, up to eight, less up to a quarter by
chance, or after as long as Retry-After says, up to two minutes. All others are final.

What is told of a failure is the server's own words, bounded, on one line, and without the key.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field, ValidationError

from embedders.summaries.base import Unanswered, Usage
from embedders.summaries.bounded_http import CONNECT_S, check_address, open_client
from embedders.summaries.config import WriterConfig

BUSY = frozenset({429, 503})
UNLISTED = frozenset({400, 404, 405, 501})  # a server need not have a list of models
OFFLINE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
LIMIT_WORDS = 300  # characters of a server's words


class Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None


class Tokens(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    """What is read of a chat completion; servers differ in all the rest."""

    choices: list[Choice] = Field(min_length=1)
    usage: Tokens | None = None


class Stated(BaseModel):
    """What a server says of a model. `created` is left out: for vLLM and SGLang that is now."""

    id: str
    root: str | None = None
    parent: str | None = None


class Listing(BaseModel):
    data: list[Stated]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no completion, in words fit to be shown."""

    words: str
    is_the_servers: bool = False
    """Whether any other request would have fared as badly: busy, or not there at all."""


class Endpoint:
    """One model of one server. Threads share it."""

    def __init__(self, config: WriterConfig, *, key: str | None, usage: Usage) -> None:
        """Nothing is asked yet.

        Args:
            config: Of the engine `openai`.
            key: Held by the connection alone.
            usage: Where tokens and retries are counted.

        Raises:
            ValueError: the address or the key will not do.
        """
        assert config.model is not None
        assert config.url is not None
        check_address(config.url, key=key, insecure=config.insecure)
        self._config, self._model, self._usage = config, config.model, usage
        self._told = _teller(key)
        self._counting = threading.Lock()
        self._client = OpenAI(
            api_key="-",  # the true one is known to the client beneath, and to nobody else
            base_url=config.url,
            max_retries=config.retries,
            timeout=httpx2.Timeout(config.timeout_s, connect=min(config.timeout_s, CONNECT_S)),
            http_client=open_client(
                key=key, timeout_s=config.timeout_s, concurrency=config.concurrency
            ),
        )

    @property
    def is_closed(self) -> bool:
        return self._client.is_closed()

    def close(self) -> None:
        self._client.close()

    def ask_plainly(self, question: list[ChatCompletionMessageParam]) -> int | Failure:
        """How many tokens a question has (0 where the server does not count), if it is answered.

        It is asked twice at least: a server that failed just now may well have closed the kept
        connection that the question takes.
        """
        client = self._client.with_options(max_retries=max(1, self._config.retries))
        found = self._complete(client, question, max_tokens=1)
        if isinstance(found, Failure):
            return found
        return (found.usage and found.usage.prompt_tokens) or 0

    def complete(
        self, messages: list[ChatCompletionMessageParam], *, max_tokens: int
    ) -> Completion | Failure:
        """One answer. It may be empty, or held back: that is the reader's to judge."""
        return self._complete(self._client, messages, max_tokens=max_tokens)

    def _complete(
        self, client: OpenAI, messages: list[ChatCompletionMessageParam], *, max_tokens: int
    ) -> Completion | Failure:
        found = self._ask(
            lambda: client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=messages,
                max_tokens=max_tokens,  # newer names are not known to every server
                n=1,
                seed=self._config.seed,
                temperature=self._config.temperature,
            )
        )
        if isinstance(found, Failure):
            return found
        try:
            completion = Completion.model_validate_json(found)
        except ValidationError:
            return Failure("the answer is no chat completion")
        if (tokens := completion.usage) is not None:
            self._count(tokens.prompt_tokens or 0, tokens.completion_tokens or 0)
        return completion

    def stated(self) -> dict[str, str | None]:
        """What the server says of the model; nothing where it has no list, or another name in it.

        Raises:
            Unanswered: it cannot be asked. Taken for nothing said, an hour's trouble would make
                another model of this one, and have all written anew.
        """
        found = self._ask(lambda: self._client.models.with_raw_response.list(), missing=UNLISTED)
        if isinstance(found, Failure):
            raise Unanswered(f"{self._config.url} does not say what it serves: {found.words}")
        try:
            listing = Listing.model_validate_json(found)
        except ValidationError:
            return {}
        return next((one.model_dump() for one in listing.data if one.id == self._model), {})

    def told(self, words: str) -> str:
        """A server's words, fit to be shown."""
        return self._told(words)

    def _ask(
        self, request: Callable[[], Any], *, missing: frozenset[int] = frozenset()
    ) -> bytes | Failure:
        """The body of a success, nothing of a status in `missing`, or why not."""
        try:
            answer = request()
            self._count(num_retries=answer.retries_taken)
            body: bytes = answer.http_response.content
            return body
        except APIStatusError as error:
            self._count(num_retries=_retries(error.request))
            if error.status_code in missing:
                return b""
            words = f"{error.status_code}: {self._told(_said(error))}"
            return Failure(words, error.status_code in BUSY)
        except APITimeoutError as error:
            self._count(num_retries=_retries(error.request))
            words = f"no answer within timeout_s = {self._config.timeout_s:g}"
            return Failure(words, isinstance(error.__cause__, OFFLINE))
        except APIConnectionError as error:
            self._count(num_retries=_retries(error.request))
            cause = error.__cause__
            words = f"{type(cause).__name__}: {self._told(str(cause))}"
            return Failure(words, isinstance(cause, OFFLINE))
        except OpenAIError as error:
            return Failure(self._told(str(error)))

    def _count(self, input_tokens: int = 0, output_tokens: int = 0, num_retries: int = 0) -> None:
        with self._counting:
            self._usage.input_tokens += input_tokens
            self._usage.output_tokens += output_tokens
            self._usage.num_retries += num_retries


def _retries(request: httpx2.Request) -> int:
    """The client says in each request how often it was sent before."""
    return int(request.headers.get("x-stainless-retry-count", 0))


def _said(error: APIStatusError) -> str:
    """The message of an error, wherever a server puts it."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body) if body else "no reason given"


def _teller(key: str | None) -> Callable[[str], str]:
    """A server may quote the key that it was sent, or send a terminal's codes."""

    def told(words: str) -> str:
        if key is not None:
            words = words.replace(key, "[the key]")
        words = "".join(char if char.isprintable() else " " for char in words)
        words = " ".join(words.split())
        return words if len(words) <= LIMIT_WORDS else f"{words[:LIMIT_WORDS]} [...]"

    return told
