"""The commands that measure, for the one command line."""

from pathlib import Path
from typing import Annotated

import typer

from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath, terminal, work
from sommelier.failures import told


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order of its help."""
    app.command()(evaluate)
    app.command()(compare)
    app.command()(audit)


def evaluate(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    ablations: Annotated[
        bool, typer.Option(help="Measure the route without each modality as well.")
    ] = True,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Measure the candidates; rerank nothing.")
    ] = False,
    trec: Annotated[
        bool, typer.Option("--trec", help="Also write runs and qrels as TREC has them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Measure again what was.")] = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Measure as a paper does instead: msr/1+20, tmf/20, atflrec/k-shot, mmrec/full.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure retrieval alone and reranked on what users did after the cut."""
    if retrieval_only:
        overrides = [*(overrides or ()), "evaluation.max_reranked=0"]
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        if protocol is not None and protocol != "full":
            from sommelier.evaluating.protocols import run as run_protocol

            watch.show(run_protocol(workspace, protocol, watch=watch).summary)
            return
        from sommelier.evaluating.evaluate import evaluate as run
        from sommelier.evaluating.write_trec import write_trec

        found = run(workspace, watch=watch, has_ablations=ablations, is_forced=force)
        watch.show(found.summary)
        watch.say(found.headline)
        for path in write_trec(workspace) if trec else ():
            watch.say(str(path))


def compare(
    a: Annotated[Path, typer.Argument(help="A report folder, or one with a report a seed.")],
    b: Annotated[Path, typer.Argument(help="Another; or a TREC run, judged as A is.")],
    out: Annotated[Path, typer.Option("--out", help="Where the comparison is written.")] = Path(
        "comparison"
    ),
    route: Annotated[
        str | None, typer.Option("--route", help="The order compared; else the delivered one.")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Where users differ, compare those of both.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Compare two evaluations user by user: differences, intervals, tests, slices, seeds."""
    with told(is_debug=debug):
        from sommelier.console import ConsoleWatch
        from sommelier.evaluating.compare import compare as run

        watch = ConsoleWatch(terminal())
        found = run(a, b, out=out, watch=watch, route=route, takes_common=common)
        watch.show(found.summary)
        watch.say(found.headline)


def audit(
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    users: Annotated[int, typer.Option("--users", min=1, help="How many are asked.")] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of the other future.")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FOLDER", help="Keep both routes here.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Prove that nothing from after the cut is learned from: train twice, with another future."""
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.evaluating.audit import audit as run

        found = run(workspace, watch=watch, num_users=users, seed=seed, folder=keep)
        watch.show(found.summary)
        if not found.is_clean:
            raise typer.Exit(1)
