"""A command's words in, the workspace it works in and the terminal it fills out."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sommelier.failures import told

if TYPE_CHECKING:
    from sommelier.console import ConsoleWatch
    from sommelier.workspace import Workspace

FILE = Path("sommelier.toml")
PIPE_WIDTH = 120

SettingsPath = Annotated[Path, typer.Option("--settings", help="The settings file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Overrides one setting; may be repeated."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Shows the traceback of an error.")]


@contextmanager
def work(
    settings: Path, overrides: list[str] | None, *, is_debug: bool
) -> Iterator[tuple["Workspace", "ConsoleWatch"]]:
    """The workspace of a settings file, and a terminal to report to."""
    with told(is_debug=is_debug):
        from sommelier import settings_file
        from sommelier.console import ConsoleWatch

        read = settings_file.load(settings, overrides=overrides or (), environment=os.environ)

        from sommelier.workspace import Workspace

        with closing(Workspace(read)) as workspace:
            yield workspace, ConsoleWatch(terminal())


def terminal() -> Console:
    """The terminal as wide as it is; a pipe wide enough for our tables.

    Of several processes that were launched together only the first one speaks.
    """
    is_quiet = os.environ.get("RANK", "0") != "0"
    console = Console(quiet=is_quiet)
    return console if console.is_terminal else Console(width=PIPE_WIDTH, quiet=is_quiet)
