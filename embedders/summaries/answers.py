"""Prompts in, a writer's answers as plain, bounded texts out, or why there is none."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embedders.summaries.base import Prompt, Unanswered, Unwritten, Writer
from embedders.summaries.frame import plain
from embedders.texts import MAX_CHARACTERS

WORDS_PER_TOKEN = 0.6  # of English, a little less than it has: a paragraph cut off says less


Answer = str | Unwritten


def ask(
    writer: Writer, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
) -> list[Answer]:
    """The answers in the prompts' order, made plain: a model writes what strangers had it write.

    Raises:
        Unanswered: the writer's endpoint answers nobody; the answers so far are plain, too.
    """
    try:
        answers = writer.write(prompts, on_progress=on_progress) if prompts else []
    except Unanswered as error:
        plain_ones = [None if one is None else _settled(one) for one in error.answers]
        raise Unanswered(str(error), answers=plain_ones) from error
    assert len(answers) == len(prompts), "a writer answers each prompt"
    return [_settled(answer) for answer in answers]


@dataclass(slots=True)
class Asking:
    """Several rounds of prompts about the same items, whose progress is told in items."""

    writer: Writer
    num_items: int
    num_prompts: int
    """Of all rounds, at most."""
    on_progress: Callable[[int], None] | None
    failure: Unanswered | None = None
    """Why nothing is asked any more."""
    _num_asked: int = 0

    def ask(self, prompts: Sequence[Prompt]) -> list[Answer | None]:
        """One round's answers; None where the endpoint gave none, and ever after."""
        if self.failure is not None:
            return [None] * len(prompts)
        try:
            answers: list[Answer | None] = [*ask(self.writer, prompts, on_progress=self._tell)]
        except Unanswered as error:
            self.failure = error
            lacking = len(prompts) - len(error.answers)
            answers = [*error.answers, *[None] * lacking]
        self._num_asked += len(prompts)
        return answers

    def _tell(self, num_answered: int) -> None:
        if self.on_progress:
            done = self._num_asked + num_answered
            self.on_progress(self.num_items * done // self.num_prompts)


def check_writer(engine: str, writer: Writer | None) -> None:
    """Whether there is a writer exactly where the engine is a model.

    Raises:
        ValueError: else.
    """
    if (engine == "template") != (writer is None):
        given = "none" if writer is None else repr(writer.name)
        raise ValueError(f"the engine {engine!r} and the writer given ({given}) do not go together")


def num_words(max_tokens: int) -> int:
    """How many words are asked for, so that the answer ends before it is cut off."""
    return max(5, int(max_tokens * WORDS_PER_TOKEN))


def digest(facts: Any) -> str:
    """The sha256 of what JSON can say, in hex."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _settled(answer: Answer) -> Answer:
    if isinstance(answer, Unwritten):
        return answer
    return plain(answer, limit=MAX_CHARACTERS) or Unwritten(
        "nothing that can be seen was written; another model, or other words, may help"
    )
