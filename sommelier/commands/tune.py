"""The command that tunes encoders, for the one command line."""

from typing import Annotated

import typer

from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath, work


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
    app.command()(tune_encoders)


def tune_encoders(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            metavar="text,image,audio",
            help="Which encoders, tuned together; without it, all that can be.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Tune encoders by what users chose before the cut: adapters for [[encoders]]; then `embed`."""
    modalities = None if modality is None else [one.strip() for one in modality.split(",")]
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.training.tune_encoders import tune_encoders as run

        folder = settings.absolute().parent
        watch.show(run(workspace, watch=watch, modalities=modalities, base=folder))
