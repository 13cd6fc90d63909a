"""The writer's contract: prompts in, one text for each out.

A writer is an engine: a model in this process (`engine_transformers`), or one behind an
OpenAI-compatible endpoint (`engine_openai`). What a prompt says is none of its business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedders.items import Modality


class Unwritten(ValueError):
    """The writer gave no text for one prompt; the message says why, and what to mend."""


class Unanswered(ConnectionError):
    """The endpoint answers nobody; asking again later goes on from what it had answered."""

    def __init__(self, message: str, *, answers: Sequence[str | Unwritten | None] = ()) -> None:
        super().__init__(message)
        self.answers = tuple(answers)
        """One for each prompt of the batch, in order, None where it was not answered; empty where
        no prompt was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question. Files of modalities that the writer does not read are an error.

    Raises:
        ValueError: no token is left for the answer.
    """

    instruction: str
    """Ours alone: the system's turn. Nothing that a catalog says stands in it."""
    text: str
    """The user's turn; what a catalog says is framed (`embedders.summaries.frame`)."""
    images: tuple[Path, ...] = ()
    """Shown before the text."""
    sounds: tuple[Path, ...] = ()
    """Heard before the text."""
    max_tokens: int = 96
    """The answer's bound, in the writer's tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")


@dataclass(slots=True, kw_only=True)
class Usage:
    """What writing has cost so far."""

    num_prompts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    num_retries: int = 0


class Writer(ABC):
    """Writes texts. The same prompt gives the same text: greedy unless told otherwise, seeded."""

    name: str
    """For the source: the model's."""
    revision: str
    """For the source: a commit, a digest of its files, or what the endpoint states, with all that
    changes an answer: precision, temperature, seed."""
    reads: frozenset[Modality]
    """What it can be shown beside text: IMAGE, AUDIO, both or neither."""
    usage: Usage

    @abstractmethod
    def write(
        self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | Unwritten]:
        """One answer for each prompt, in their order: stripped, never empty, or why there is none.

        One odd prompt never costs the others theirs.

        Args:
            prompts: Few enough to be durable together: whoever calls writes them down then.
            on_progress: Told how many are answered.

        Raises:
            Unanswered: an endpoint does not answer, in spite of retries, or refuses whatever it is
                asked; it holds the answers so far.
        """

    def close(self) -> None:
        """Let go of connections, where there are any."""
        return
