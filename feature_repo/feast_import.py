"""Feast's import in, the same import in about half the time out.

Feast decorates its classes with typeguard's `typechecked`, which parses the source of a whole
module once for each function in it: some five seconds of every process that opens a store. What
would be checked are the types of our own calls, which mypy has seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

NAME = "typeguard"


@contextmanager
def quick() -> Iterator[None]:
    """Within it `typechecked` changes nothing; afterwards it is what it was."""
    if find_spec(NAME) is None:  # Feast says what it lacks
        yield
        return
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _unchecked
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _unchecked(target: Any = None, **_options: Any) -> Any:
    """The decorator's two forms, with options and without."""
    if target is not None:
        return target
    same: Callable[[Any], Any] = _unchecked
    return same
