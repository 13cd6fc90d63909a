"""An exception in, one message on stderr and an exit code out."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
FAILED = 1


@contextmanager
def told(*, is_debug: bool) -> Iterator[None]:
    """Turn what a user can mend into a message; what they cannot keeps its traceback.

    With `is_debug` everything keeps it, and the warnings of libraries are shown too.
    """
    if not is_debug:
        # Of no use to whoever runs a command; Feast resets the filters, so this comes again.
        warnings.simplefilter("ignore")
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted: what was done is kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter must not fail again while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except (ValueError, ImportError, OSError) as error:
        _fail(error, is_debug=is_debug)
    except Exception as error:
        # The client's own error; its module loads gRPC's codes no sooner than a call is made.
        if type(error).__name__ != "RankerError":
            raise
        _fail(error, is_debug=is_debug)


def _fail(error: Exception, *, is_debug: bool) -> None:
    if is_debug:
        traceback.print_exception(error)
    _say(str(error) or type(error).__name__)
    raise typer.Exit(FAILED) from error


def _say(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]sommelier:[/] {escape(text)}")
