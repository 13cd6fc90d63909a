"""The command that lets callers in, and shuts them out again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath
from sommelier.failures import told

if TYPE_CHECKING:
    from ranker.service.callers import Rate


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
    app.command()(token)


def token(
    caller: Annotated[str, typer.Argument(metavar="CALLER", help="Who calls.")],
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Requests a second, of this caller's own."),
    ] = None,
    burst: Annotated[
        int | None, typer.Option("--burst", metavar="N", help="Requests at once, after a pause.")
    ] = None,
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="The caller brings a certificate of this name instead."),
    ] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Shut the caller out; no token is made.")
    ] = False,
    but_newest: Annotated[
        bool, typer.Option("--but-newest", help="With --revoke: the last token stays.")
    ] = False,
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Make a token for a caller and print it, this once; only its hash is kept."""
    with told(is_debug=debug):
        from ranker.service import callers

        if revoke and (rate is not None or burst is not None or certificate):
            raise ValueError("--revoke goes with --but-newest alone")
        if but_newest and not revoke:
            raise ValueError("--but-newest goes with --revoke")
        path = _path(settings, overrides)
        if revoke:
            num_gone = callers.revoke(path, caller, but_newest=but_newest)
            typer.echo(f"{num_gone} of {caller}'s lines taken out of {path}", err=True)
            return
        made = callers.add(path, caller, rate=_rate(rate, burst), has_token=not certificate)
        typer.echo(f"{caller} may call, as {path} says; servers read it within a second", err=True)
        if made:
            typer.echo("the token, which is shown this once and kept nowhere:", err=True)
            typer.echo(made)  # alone on stdout, so that it can be piped to where it belongs


def _path(settings: Path, overrides: list[str] | None) -> Path:
    from sommelier import settings_file

    read = settings_file.load(settings, overrides=overrides or (), environment=os.environ)
    if read.server.callers is None:
        raise ValueError(
            'server.callers names no file: set it, for example to "callers.jsonl", so that the '
            "server asks for tokens at all"
        )
    return read.server.callers


def _rate(requests_per_s: float | None, burst: int | None) -> "Rate | None":
    from ranker.service.callers import Rate

    if requests_per_s is None:
        if burst is not None:
            raise ValueError("--burst goes with --rate")
        return None
    return Rate.of(requests_per_s, burst)
