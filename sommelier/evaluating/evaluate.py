"""A published generation and what users did after its cut in, the report and its runs out.

Every judged user is asked as of the cut (or of their own later moment): histories come from the
store as they were then, whatever has been written since. Finished batches are kept in a journal
beside the report until it is written, so that a killed evaluation goes on where it stopped.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from evaluation import evaluate as evaluation
from evaluation import run_files
from evaluation.behaviors import Asked, by_behavior
from evaluation.findings import Background
from evaluation.history import seen_before
from evaluation.journal import Journal
from evaluation.order import LEAKS
from evaluation.protocols import FULL
from evaluation.report import FORMAT, ROUTES, Report
from evaluation.routes import OnProgress, Route
from evaluation.slices import parts
from evaluation.split import Split, sample, split
from evaluation.summary import ROUTE_NAMES, headline
from evaluation.write import ReportFiles, write
from ranker.loaded import LoadedGeneration
from sommelier.evaluating import beside
from sommelier.evaluating.asked import AskedQueries
from sommelier.evaluating.background import background
from sommelier.evaluating.shown import shown
from sommelier.serve import loaded
from sommelier.state import digest
from sommelier.training.train import training_key
from sommelier.watch import Advance, Summary, Watch
from sommelier.workspace import Workspace
from sommelier.writing.prompt_texts import Preferences, preferences

MEASURES = ("ndcg@10", "hr@10", "mrr@10", "recall@20")
JOURNAL = ".journal"  # in the report's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation found, and where it was written."""

    headline: str
    files: ReportFiles
    summary: Summary


def evaluate(
    workspace: Workspace,
    *,
    watch: Watch,
    has_ablations: bool = True,
    is_forced: bool = False,
    is_helped: bool = False,
) -> Evaluated:
    """Measure the current generation and write the report, with the runs that it was made from.

    Args:
        workspace: Whose.
        watch: Whoever watches.
        has_ablations: Measure the route without each modality as well.
        is_forced: Measure again what has been measured.
        is_helped: A second process measures ablations at the same time, and loads all that this
            one has loaded; the report is the same.

    Raises:
        ValueError: nothing was published, or nobody can be judged after the cut.
    """
    settings = workspace.settings
    serving = loaded(workspace, watch=watch, online=False)
    key = journal_key(workspace, serving, has_ablations=has_ablations)
    if not is_forced and (earlier := _earlier(workspace, key)):
        return earlier
    journal = Journal(settings.paths.report / JOURNAL, key=key)
    if is_forced:
        journal.clear()
    with ExitStack() as stack:
        if is_helped and has_ablations:
            stack.enter_context(beside.helped(workspace, serving.info.generation_id, key))
        found, known = _measured(workspace, serving, watch, journal, has_ablations)
    files = write(found.report, settings.paths.report)
    run_files.write(
        settings.paths.report,
        runs=found.runs,
        judgements=found.judgements,
        parts=parts(found.judgements, known.item_facts, known.user_facts),
        positives=found.positives,
    )
    journal.clear()
    done = Evaluated(
        headline=headline(found.report), files=files, summary=_summary(found.report, files)
    )
    table = {"header": done.summary.header, "rows": done.summary.rows}
    workspace.state.write("evaluate", {"key": key, "headline": done.headline} | table)
    return done


def journal_key(workspace: Workspace, serving: LoadedGeneration, *, has_ablations: bool) -> str:
    """Changes when anything does that the report depends on."""
    settings = workspace.settings
    return digest(
        serving.info.generation_id,
        training_key(workspace),
        workspace.catalog.fingerprint,
        settings.evaluation,
        settings.target,
        settings.time,
        has_ablations,
        FORMAT,
        metadata.version("sommelier"),
    )


def _measured(
    workspace: Workspace,
    serving: LoadedGeneration,
    watch: Watch,
    journal: Journal,
    has_ablations: bool,
) -> tuple[evaluation.Evaluation, Background]:
    whole = judged(workspace)
    seen = seen_before(workspace.timed_interactions, whole.judgements)
    queries = asked_queries(workspace, serving, whole, seen)
    config = workspace.settings.evaluation
    with watch.task("what was known at the cut"):
        known = background(workspace, serving, whole, seen)
    retrieve, rerank = route = _route(serving, config.num_candidates)
    with _progress(watch) as on_progress:
        example, explained = shown(
            serving,
            whole.judgements,
            queries,
            titles=workspace.titles,
            limit=config.num_candidates,
            is_reranked=config.max_reranked != 0,
        )
        found = evaluation.evaluate(
            whole.judgements,
            retrieve=retrieve,
            rerank=rerank,
            background=known,
            exact_ranks=serving.retriever.exact_ranks,
            ablations=ablated_routes(workspace, serving) if has_ablations else None,
            queries=queries,
            config=config,
            counts=_counts(workspace) | whole.counts,
            manifest=_manifest(workspace, serving, whole),
            example=example,
            journal=journal,
            on_progress=on_progress,
        )
        behaviors = by_behavior(
            _asked_about(workspace, serving),
            route,
            config=config,
            journal=journal,
            on_progress=on_progress,
        )
    report = replace(found.report, explained=explained, behaviors=behaviors)
    return replace(found, report=report), known


def asked_queries(
    workspace: Workspace,
    serving: LoadedGeneration,
    whole: Split,
    seen: Mapping[str, frozenset[str]],
) -> AskedQueries:
    """What is asked for everybody who is judged, with what they had met by then."""
    return AskedQueries(
        whole.judgements,
        histories=workspace.histories,
        seen=seen,
        preferences=read_preferences(workspace, serving),
    )


def _asked_about(workspace: Workspace, serving: LoadedGeneration) -> dict[str, Asked]:
    """What is judged of each behavior by itself; nothing where only one can be asked about."""
    behaviors = serving.info.behaviors
    found: dict[str, Asked] = {}
    for behavior in behaviors if len(behaviors) > 1 else ():
        judgements = judged(workspace, behavior=behavior).judgements
        if not judgements:
            continue
        queries = AskedQueries(
            judgements,
            histories=workspace.histories,
            seen=seen_before(workspace.timed_interactions, judgements),
            preferences=read_preferences(workspace, serving),
            behavior=behavior,
        )
        found[behavior] = (judgements, queries)
    return found


def read_preferences(workspace: Workspace, serving: LoadedGeneration) -> Preferences | None:
    """What the generation's prompts read of users, as of any moment; None where they read none."""
    return preferences(workspace, serving.generation.texts)


def judged(workspace: Workspace, *, behavior: str | None = None) -> Split:
    """Who is judged by what.

    Args:
        workspace: Whose users.
        behavior: Only these choices count; None for all that `[target]` names.

    Raises:
        ValueError: the cut leaves nothing to be judged.
    """
    settings, line = workspace.settings, workspace.timeline
    if line.is_open:
        raise ValueError(
            f"no event lies after the cut ({line.cut.isoformat()}), so nobody can be judged: set "
            "an earlier time.cut or time.cut_share, then train, index and publish again"
        )
    whole = split(
        workspace.timed_interactions,
        cut=line.cut,
        behaviors=settings.target.behaviors if behavior is None else (behavior,),
        min_weight=settings.target.min_weight,
        min_history=settings.evaluation.min_history,
        known_items=workspace.item_ids,
        warm_up=settings.evaluation.warm_up,
    )
    if settings.evaluation.max_users is None:
        return whole
    return sample(whole, limit=settings.evaluation.max_users, seed=settings.evaluation.seed)


@contextmanager
def _progress(watch: Watch) -> Iterator[OnProgress]:
    """A bar for each route, opened when the route's first user is done."""
    with ExitStack() as bars:
        current: dict[str, Advance] = {}

        def on_progress(name: str, done: int, total: int) -> None:
            if name not in current:
                bars.close()
                task = watch.task(f"users judged, {name}", total=total)
                current[name] = bars.enter_context(task)
            current[name](done)

        yield on_progress


def ablated_routes(workspace: Workspace, serving: LoadedGeneration) -> dict[str, Route]:
    """The same route without each modality, by its name."""
    limit = workspace.settings.evaluation.num_candidates
    routes: dict[str, Route] = {}
    for modality in workspace.item_vectors.modalities:
        routes[modality.value] = _route(serving.without(modality), limit)
    return routes


def _route(serving: LoadedGeneration, limit: int) -> Route:
    return (lambda batch: serving.retrieve_many(batch, limit=limit), serving.rerank)


def _counts(workspace: Workspace) -> dict[str, int]:
    line = workspace.timeline
    return {
        "num_items": workspace.catalog.num_items,
        "num_interactions": workspace.catalog.interactions.num_rows,
        "num_graph_events": line.num_graph_events,
        "num_ranker_events": line.num_ranker_events,
        "num_events_after_cut": line.num_judged_events,
    }


def _manifest(workspace: Workspace, serving: LoadedGeneration, whole: Split) -> dict[str, Any]:
    info, line = serving.info, workspace.timeline
    return {
        "generation_id": info.generation_id,
        "split": workspace.settings.time.split,
        "protocol": FULL,
        "leaks": LEAKS[workspace.settings.time.split],
        "cut": whole.cut.isoformat(),
        "catalog": workspace.settings.catalog.path.name,
        "catalog_sha256": workspace.catalog.fingerprint,
        "model": info.model,
        "graph_until": line.graph_until.isoformat(),
        "spaces": {space.space_id: space.revision for space in info.spaces},
    }


def _earlier(workspace: Workspace, key: str) -> Evaluated | None:
    """The last evaluation, where it measured the same and its files are still there."""
    facts = workspace.state.read("evaluate")
    folder = workspace.settings.paths.report
    files = ReportFiles(
        json=folder / "report.json", markdown=folder / "report.md", html=folder / "report.html"
    )
    if facts.get("key") != key or not all(
        path.exists() for path in (files.json, files.markdown, files.html)
    ):
        return None
    manifest = json.loads(files.json.read_text("utf-8"))["manifest"]
    if manifest.get("catalog_sha256") != workspace.catalog.fingerprint:
        return None  # another workspace has written its report there since
    rows = tuple(tuple(row) for row in facts["rows"])
    summary = _table(tuple(facts["header"]), rows, files, is_new=False)
    return Evaluated(headline=facts["headline"], files=files, summary=summary)


def _summary(report: Report, files: ReportFiles) -> Summary:
    """The measures of every route and what reranking changed; retrieval alone has no change."""
    routes = [name for name in ROUTES if name in report.routes]
    header = ["", *(ROUTE_NAMES[name].lower() for name in routes)]
    rows = []
    for name in (one for one in MEASURES if one in report.routes["retrieval_order"]):
        row = [name, *(f"{report.routes[route][name].mean:.4f}" for route in routes)]
        if report.is_reranked:
            change = report.delta[name]
            row += [f"{change.mean:+.4f}", f"{change.low:+.4f} to {change.high:+.4f}"]
        rows.append(tuple(row))
    if report.is_reranked:
        header += ["change", "interval"]
    return _table(tuple(header), tuple(rows), files, is_new=True)


def _table(
    header: tuple[str, ...],
    rows: tuple[tuple[str, ...], ...],
    files: ReportFiles,
    *,
    is_new: bool,
) -> Summary:
    return Summary(
        title="Evaluated" if is_new else "Evaluated before: nothing is new",
        header=header,
        rows=rows,
        notes=tuple(str(path) for path in (files.markdown, files.json, files.html)),
        is_new=is_new,
    )
