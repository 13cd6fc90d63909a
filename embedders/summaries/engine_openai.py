"""Prompts in, texts by a server out: vLLM, SGLang, TGI, Ollama, `transformers serve`.

Whatever speaks OpenAI's chat completions. Several prompts are asked at once, and each is asked
again where the server is busy or breaks (`embedders.summaries.endpoint`).

Whose fault is it that a prompt gets no answer? A server that is down, does not take the key or
does not know the model must not cost a catalog its summaries; and one odd prompt, on which a
server fails each time, must not keep all others from theirs. So whenever a prompt fails, the
server is asked a plain question of the same shape, pictures and sounds included. Where it answers
that, the fault is the prompt's (`Unwritten`), else the server's (`Unanswered`). A server that is
busy or refuses connections is at fault itself, and not asked.

Chat templates differ: some know no system's turn. A writer therefore begins with a plain question
in both forms, and keeps the first that is answered. Pictures that a server leaves out without a
word, as `transformers serve` does where a model only reads, show in the tokens that it counts.

Nothing here reads the environment: whoever opens a writer hands over the key.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from embedders.base import BadContent
from embedders.items import Modality
from embedders.summaries.base import Prompt, Unanswered, Unwritten, Usage, Writer
from embedders.summaries.config import WriterConfig
from embedders.summaries.endpoint import Completion, Endpoint, Failure
from embedders.summaries.messages import HOW_SHOWN, messages, plain_question
from embedders.texts import MAX_CHARACTERS

MILLION = 1_000_000
THOUGHT = ("<think>", "</think>")  # what servers without a parser of thoughts leave in an answer


class OpenAiWriter(Writer):
    """Texts by a server. Its `usage` counts plain questions' tokens and retries, too."""

    def __init__(self, config: WriterConfig, *, key: str | None = None) -> None:
        """Ask the server what it serves, and a plain question.

        Args:
            config: Of the engine `openai`.
            key: What the environment variable `config.key_variable` holds; None sends none.

        Raises:
            ValueError: the address or the key will not do.
            Unanswered: the server does not answer.
        """
        assert config.engine == "openai"
        assert config.model is not None
        self.name = config.model
        self.reads = frozenset(Modality(one) for one in config.shows)
        self.usage = Usage()
        self._config = config
        self._tried: set[Modality] = set()
        self._decoding = threading.Lock()  # one file at a time: a large picture takes 150 MB
        self._endpoint = Endpoint(config, key=key, usage=self.usage)
        try:
            stated = self._endpoint.stated()
            self._has_system, self._num_plain = self._begin()
            self.revision = self._revision(stated)
        except BaseException:
            self.close()
            raise

    @property
    def cost(self) -> float | None:
        """What was spent so far, in the prices' currency; None where no price is given."""
        prices = (self._config.input_price, self._config.output_price)
        if prices == (None, None):
            return None
        tokens = (self.usage.input_tokens, self.usage.output_tokens)
        return sum(n * (price or 0.0) for n, price in zip(tokens, prices, strict=True)) / MILLION

    def write(
        self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | Unwritten]:
        """Ask for all prompts, `concurrency` at once.

        Where the server proves to be at fault, what it is just being asked is waited for, nothing
        more is asked, and `Unanswered.answers` holds what there is.

        Raises:
            Unanswered: no answers, whatever is asked.
            ValueError: a prompt shows what the server is not shown or leaves out, or the writer is
                closed.
        """
        self._check(prompts)
        for modality in sorted({shown for one in prompts for shown, _ in _shown(one)}):
            if modality not in self._tried:
                self._try_showing(modality)
        answers: list[str | Unwritten | None] = [None] * len(prompts)
        num_answered, fault = 0, ""
        with ThreadPoolExecutor(self._config.concurrency, "writer") as pool:
            places = {pool.submit(self._answer, prompt): n for n, prompt in enumerate(prompts)}
            try:
                for asked in as_completed(places):
                    if asked.cancelled():
                        continue
                    if isinstance(error := asked.exception(), ConnectionError):
                        fault = fault or str(error)
                        _cancel(places)
                        continue
                    answers[places[asked]] = asked.result()
                    num_answered += 1
                    self.usage.num_prompts += 1
                    if on_progress is not None:
                        on_progress(num_answered)
            finally:
                _cancel(places)  # an interruption is not to wait for all the others
        if fault:
            raise Unanswered(fault, answers=answers)
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        self._endpoint.close()

    def __repr__(self) -> str:
        return f"OpenAiWriter({self.name!r} at {self._config.url})"

    def _begin(self) -> tuple[bool, int]:
        """Whether the server takes a system's turn, and a plain question's tokens."""
        first = self._endpoint.ask_plainly(plain_question())
        if not isinstance(first, Failure):
            return True, first
        if not first.is_the_servers:
            second = self._endpoint.ask_plainly(plain_question(has_system=False))
            if not isinstance(second, Failure):
                return False, second
        raise Unanswered(f"{self._server} does not answer: {first.words}")

    def _try_showing(self, modality: Modality) -> None:
        """Show the server a gray picture, or a tone, before the first true one.

        Raises:
            Unanswered: it refuses.
            ValueError: it leaves them out.
        """
        asked = self._plainly({modality})
        if isinstance(asked, Failure):
            raise Unanswered(
                f"{self._server} does not answer: {asked.words}; where it cannot be shown "
                f"{modality}, take that out of the writer's `shows`"
            )
        if asked and asked == self._num_plain:
            raise ValueError(
                f"{self._server} reads as many tokens with {modality} as without, so it leaves "
                "that out: take it out of the writer's `shows`, or serve another model"
            )
        self._tried.add(modality)

    def _plainly(self, shows: Collection[Modality]) -> int | Failure:
        return self._endpoint.ask_plainly(plain_question(shows=shows, has_system=self._has_system))

    @property
    def _server(self) -> str:
        return f"{self._config.url} ({self.name})"

    def _revision(self, stated: dict[str, str | None]) -> str:
        """The user's word, and a digest of all that changes an answer, as far as it is known."""
        facts = {
            "revision": self._config.revision,
            "stated": stated,
            "has_system": self._has_system,
            "temperature": self._config.temperature,
            "seed": self._config.seed if self._config.temperature else None,
            "shown": [HOW_SHOWN[modality] for modality in sorted(self.reads)],
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self._config.revision or 'served'}-{digest}"

    def _check(self, prompts: Sequence[Prompt]) -> None:
        if self._endpoint.is_closed:
            raise ValueError("this writer is closed: open another")
        for prompt in prompts:
            for modality, files in _shown(prompt):
                if modality not in self.reads:
                    raise ValueError(
                        f"a prompt shows {files[0]}, but {self.name!r} is shown no {modality}: add "
                        f"it to the writer's `shows`, got {sorted(self.reads)}"
                    )

    def _answer(self, prompt: Prompt) -> str | Unwritten:
        """One prompt's text; a ConnectionError says that there would be none for any prompt."""
        try:
            with self._decoding:
                asked = messages(prompt, has_system=self._has_system)
        except (BadContent, Unwritten) as error:
            return Unwritten(str(error))
        found = self._endpoint.complete(asked, max_tokens=prompt.max_tokens)
        return self._blame(found, prompt) if isinstance(found, Failure) else self._text(found)

    def _text(self, completion: Completion) -> str | Unwritten:
        choice = completion.choices[0]
        if choice.finish_reason == "content_filter":
            return Unwritten("the server's filter held the answer back")
        if choice.message.refusal:
            return Unwritten(f"the model refuses: {self._endpoint.told(choice.message.refusal)}")
        content = (choice.message.content or "").strip()
        _, _, text = content.rpartition(THOUGHT[1])
        text = text.strip()
        has_only_thought = content.startswith(THOUGHT[0]) and THOUGHT[1] not in content
        if has_only_thought or (not text and choice.finish_reason == "length"):
            return Unwritten(
                "max_tokens were over before the answer began: have the server's model answer "
                "without thinking aloud, or allow more"
            )
        if not text:
            return Unwritten("the answer is empty")
        if len(text) > MAX_CHARACTERS:
            return Unwritten(
                f"the answer has {len(text):,} characters, at most {MAX_CHARACTERS:,} are kept: "
                "the server does not heed max_tokens"
            )
        return text

    def _blame(self, failure: Failure, prompt: Prompt) -> Unwritten:
        """Whose fault it is that a prompt failed."""
        if failure.is_the_servers:
            raise ConnectionError(f"{self._server} does not answer: {failure.words}")
        plain = self._plainly({modality for modality, _ in _shown(prompt)})
        if isinstance(plain, Failure):
            raise ConnectionError(
                f"{self._server} does not answer, whatever is asked: {plain.words}"
            )
        return Unwritten(f"of this prompt, not of others, the server says: {failure.words}")


def _shown(prompt: Prompt) -> list[tuple[Modality, Sequence[object]]]:
    """The modalities that a prompt has files of."""
    files = ((Modality.IMAGE, prompt.images), (Modality.AUDIO, prompt.sounds))
    return [(modality, paths) for modality, paths in files if paths]


def _cancel(asked: Iterable[Future[str | Unwritten]]) -> None:
    """Whatever has not begun never does."""
    for one in asked:
        one.cancel()
