"""What a stage did in, what a person sees of it out: the contract between stages and a screen."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


class Advance(Protocol):
    """Called while a task goes on."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """So many are done, of so many; `note` is a word beside the bar, such as the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a stage did, as a small table and a few lines below it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    notes: tuple[str, ...] = ()
    is_new: bool = True
    """Whether anything was done, or all of it had been done before."""


class Watch(ABC):
    """Whoever watches a stage."""

    @abstractmethod
    def task(self, name: str, *, total: int | None = None) -> AbstractContextManager[Advance]:
        """Something that takes a while, shown until the block ends."""

    @abstractmethod
    def say(self, text: str) -> None:
        """One line that stays."""

    @abstractmethod
    def heading(self, text: str) -> None:
        """One line that stands out."""

    @abstractmethod
    def show(self, summary: Summary) -> None:
        """What a stage did."""


class Unwatched(Watch):
    """Nobody watches."""

    @contextmanager
    def task(self, name: str, *, total: int | None = None) -> Iterator[Advance]:
        def advance(done: int, total: int | None = None, note: str = "") -> None:
            """The progress of a stage that nobody watches."""

        yield advance

    def say(self, text: str) -> None:
        """A line that nobody reads."""

    def heading(self, text: str) -> None:
        """A line that nobody reads."""

    def show(self, summary: Summary) -> None:
        """A table that nobody reads."""
