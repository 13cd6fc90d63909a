"""The command that has items and users written of, for the one command line."""

from typing import Annotated

import typer

from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath, work


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
    app.command()(summarize)


def summarize(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Of so many items and users only, and show them."),
    ] = None,
    max_rejects: Annotated[
        int | None, typer.Option("--max-rejects", min=0, help="Stop when more are set aside.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Have a model write what items show, and what users seem to like; before `embed`."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.writing.summarize import summarize as run

        watch.show(run(workspace, watch=watch, limit=limit, max_rejects=max_rejects))
