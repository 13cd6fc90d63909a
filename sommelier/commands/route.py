"""The command line: each command reads the settings, runs one stage and shows its summary.

Nothing heavy is imported here before a command needs it, so that `--help` answers at once.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sommelier.commands import ask as asking
from sommelier.commands import evaluate as evaluating
from sommelier.commands import summarize as summarizing
from sommelier.commands import tokens
from sommelier.commands import tune as tuning
from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath, terminal, work
from sommelier.effort import Effort
from sommelier.failures import told

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A feature-store-centric multimodal recommender. The route: init, embed, materialize, "
    "train, index, publish, serve; then recommend, rerank, evaluate. `sommelier demo` goes it "
    "all the way.",
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write sommelier.toml.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a settings file in which every setting is explained."""
    with told(is_debug=debug):
        from sommelier.commented import commented
        from sommelier.settings import Settings

        path = folder / FILE
        if path.exists() and not force:
            raise ValueError(f"{path} exists: give --force to replace it")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(commented(Settings()), encoding="utf-8")
        Console(soft_wrap=True).print(
            f"wrote {path}: set catalog.path in it, then `sommelier embed --settings {path}`"
        )


summarizing.register(app)


@app.command()
def embed(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    max_rejects: Annotated[
        int | None, typer.Option("--max-rejects", min=0, help="Stop when more rows are set aside.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="local|ray", help="Where encoders run.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Of a running cluster.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Embed again what an exchanged encoder had made.")
    ] = False,
    allow_deletions: Annotated[
        bool, typer.Option("--allow-deletions", help="Take away however many items are gone.")
    ] = False,
    accept_changed: Annotated[
        bool, typer.Option("--accept-changed", help="Take however many brought vectors changed.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Read the catalog and write new vectors, profiles and histories into the store."""
    words = {"embedding.engine": engine, "embedding.ray_address": ray_address}
    overrides = [*(overrides or ()), *(f"{key}={word}" for key, word in words.items() if word)]
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.embedding.embed import embed as run
        from sommelier.embedding.encoding import Consent

        consent = Consent(repairs=repair, deletions=allow_deletions, changed=accept_changed)
        watch.show(run(workspace, watch=watch, max_rejects=max_rejects, consent=consent))


tuning.register(app)


@app.command()
def materialize(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write every row, not the new ones.")
    ] = False,
    views: Annotated[
        list[str] | None, typer.Option("--view", help="This view only; may be repeated.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Define the store's views in Feast and bring new rows online."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.materialize import materialize as run

        watch.show(run(workspace, watch=watch, is_full=full, views=views))


@app.command()
def push(
    events: Annotated[Path, typer.Argument(help="New interactions: parquet, csv or jsonl.")],
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Add new events to their users' histories, online at once."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.push import push as run

        watch.show(run(workspace, events, watch=watch))


@app.command()
def compact(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="DAYS", help="Drop what was replaced before.")
    ] = None,
    drop_unused: Annotated[bool, typer.Option("--drop-unused", help="And unread spaces.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look.")] = False,
    debug: Debug = False,
) -> None:
    """Merge the store's small files; drop what is too old or no longer used."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.compact import compact as run

        watch.show(run(workspace, watch=watch, keep=keep, drops=drop_unused, is_dry=dry_run))


@app.command()
def train(settings: SettingsPath = FILE, overrides: Overrides = None, debug: Debug = False) -> None:
    """Train the ranker on what users chose before the cut."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.training.train import train as run

        watch.show(run(workspace, watch=watch))


@app.command()
def index(settings: SettingsPath = FILE, overrides: Overrides = None, debug: Debug = False) -> None:
    """Fuse every item's vectors and build the index."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.index import index as run

        watch.show(run(workspace, watch=watch))


@app.command()
def publish(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    point: Annotated[
        str | None,
        typer.Option("--point", metavar="GENERATION", help="Serve this earlier one again."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Publish what was trained and indexed as one generation."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier import publish as stage

        if point is None:
            watch.show(stage.publish(workspace, watch=watch))
        else:
            watch.show(stage.point(workspace, point))


@app.command()
def generations(
    settings: SettingsPath = FILE, overrides: Overrides = None, debug: Debug = False
) -> None:
    """List what was published, and which of it is served."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.publish import overview

        watch.show(overview(workspace))


@app.command()
def rollback(
    generation: Annotated[
        str | None, typer.Argument(help="Serve this one again; else the one before the current.")
    ] = None,
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Serve an earlier generation again; servers follow by themselves."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.publish import roll_back

        watch.show(roll_back(workspace, generation))


@app.command()
def serve(settings: SettingsPath = FILE, overrides: Overrides = None, debug: Debug = False) -> None:
    """Answer over gRPC until stopped."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.serve import serve as run

        run(workspace, watch=watch)


asking.register(app)
evaluating.register(app)
tokens.register(app)


@app.command()
def doctor(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for monitoring.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Say what is stale, missing or damaged, and which command repairs it."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.doctor.examine import examine
        from sommelier.doctor.finding import facts, faults, summary
        from sommelier.watch import Unwatched

        findings = examine(workspace, watch=Unwatched() if as_json else watch)
        if as_json:
            print(json.dumps(facts(findings), indent=1, ensure_ascii=False))
        else:
            watch.show(summary(findings))
        if faults(findings):
            raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path(
        "build/demo"
    ),
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="A catalog folder; else a small shop is made.")
    ] = None,
    effort: Annotated[Effort, typer.Option("--effort", help="How long to train.")] = Effort.QUICK,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Go the whole route on one catalog: embed, train, serve, ask and measure."""
    with told(is_debug=debug):
        from sommelier.console import ConsoleWatch
        from sommelier.demo.tour import demo as run

        watch = ConsoleWatch(terminal())
        run(out, catalog=catalog, effort=effort, overrides=overrides or (), watch=watch)
