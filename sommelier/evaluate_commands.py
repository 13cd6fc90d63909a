"""The commands that measure, for the one command line."""

from typing import Annotated

import typer

from sommelier.options import FILE, Debug, Overrides, SettingsPath, work


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order of its help."""
    app.command()(evaluate)


def evaluate(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    ablations: Annotated[
        bool, typer.Option(help="Measure the route without each modality as well.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Measure again what was.")] = False,
    debug: Debug = False,
) -> None:
    """Measure retrieval alone and reranked on what users did after the cut."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.evaluate import evaluate as run

        found = run(workspace, watch=watch, has_ablations=ablations, is_forced=force)
        watch.show(found.summary)
        watch.say(found.headline)
