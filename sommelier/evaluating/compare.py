"""Two report folders, folders of several seeds, or TREC runs in, their comparison out."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation import comparison_report, run_files, trec
from evaluation.compare import Comparison, Side
from evaluation.compare import compare as compared
from evaluation.comparison_report import ComparisonFiles
from evaluation.judgements import Judgement
from evaluation.protocol import EvaluationConfig
from evaluation.run_files import RunFiles
from evaluation.runs import Run
from evaluation.slices import Part
from sommelier.watch import Summary, Watch

DELIVERED = ("rerank", "retrieval_order")  # the last order that both sides have is compared
WHAT = (
    "give a report's folder, a folder that holds one report for each seed, a runs/<route>.parquet "
    "of a report, or a TREC run"
)
MEASURES = ("ndcg@10", "hr@10", "mrr@10", "recall@20", "recall@100")
CONFIG = ("num_candidates", "ks", "recall_ks", "headline", "samples", "level", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A comparison, and where it was written."""

    comparison: Comparison
    headline: str
    files: ComparisonFiles
    summary: Summary


def compare(
    a: Path,
    b: Path,
    *,
    out: Path,
    watch: Watch,
    route: str | None = None,
    takes_common: bool = False,
) -> Found:
    """Compare two systems on the users that both were judged on, and write it down.

    Args:
        a, b: What the command line names, see `WHAT`.
        out: The folder that is written to.
        watch: Whoever watches.
        route: Which order is compared; None takes the delivered one, reranked where both sides
            have that.
        takes_common: Compare the users that both have, where they differ.

    Raises:
        ValueError: a path that is none of these, or two sides that cannot be compared.
    """
    places = [_Place.of(path) for path in (a, b)]
    route = route or _route(places)
    with watch.task("runs read"):
        sides = [_side(place, route) for place in places]
    judged = next((place for place in places if place.folders), None)
    judgements = next((side.judgements for side in sides if side.judgements), None)
    parts = () if judged is None or judgements is None else _parts(judged, judgements)
    with watch.task("compared"):
        found = compared(
            sides[0],
            sides[1],
            config=_config(judged),
            parts=parts,
            takes_common=takes_common,
        )
    files = comparison_report.write(found, out)
    return Found(
        comparison=found,
        headline=comparison_report.headline(found),
        files=files,
        summary=_summary(found, files),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What one path holds."""

    path: Path
    folders: tuple[RunFiles, ...] = ()
    """Of reports, one for each seed."""
    file: Path | None = None
    """One run alone."""

    @classmethod
    def of(cls, path: Path) -> "_Place":
        if path.is_file():
            inside = path.parent.parent
            is_ours = path.suffix == ".parquet" and RunFiles(folder=inside).judgements.is_file()
            return cls(path=path, file=path, folders=(RunFiles(folder=inside),) if is_ours else ())
        if RunFiles(folder=path).judgements.is_file():
            return cls(path=path, folders=(RunFiles(folder=path),))
        inner = sorted(path.glob(f"*/{run_files.JUDGEMENTS}"))
        inner = inner or sorted(path.glob(f"*/report/{run_files.JUDGEMENTS}"))
        if not inner:
            what = "holds no evaluation" if path.is_dir() else "does not exist"
            raise ValueError(f"{path} {what}: {WHAT}; `sommelier evaluate` makes them")
        return cls(path=path, folders=tuple(RunFiles(folder=one.parent) for one in inner))

    @property
    def routes(self) -> set[str]:
        """Which routes every seed has; a lone file serves for any."""
        if self.file is not None:
            return set(DELIVERED)
        return set.intersection(*(set(one.routes) for one in self.folders))


def _route(places: list[_Place]) -> str:
    both = places[0].routes & places[1].routes
    for route in DELIVERED:
        if route in both:
            return route
    raise ValueError(
        f"{places[0].path} and {places[1].path} have no route in common, only "
        f"{sorted(places[0].routes)} and {sorted(places[1].routes)}"
    )


def _side(place: _Place, route: str) -> Side:
    if place.file is not None:
        run = _lone(place.file)
        judged = place.folders[0].folder if place.folders else None
        return Side(
            name=str(place.path),
            runs=(run,),
            judgements=run_files.read_judgements(judged) if judged else None,
        )
    runs, judgements = [], []
    for one in place.folders:
        if route not in one.routes:
            raise ValueError(f"{one.folder} has no route {route!r}; it has {one.routes}")
        runs.append(run_files.read_run(one.run(route)))
        judgements.append(run_files.read_judgements(one.folder))
    _check_seeds(place, judgements)
    return Side(name=f"{place.path}, {route}", runs=tuple(runs), judgements=judgements[0])


def _lone(path: Path) -> Run:
    return run_files.read_run(path) if path.suffix == ".parquet" else trec.read_run(path)


def _check_seeds(place: _Place, judgements: list[tuple[Judgement, ...]]) -> None:
    """The seeds of one system answer the same users."""
    first = {one.user_id: one.item_ids for one in judgements[0]}
    for files, others in zip(place.folders, judgements, strict=True):
        if {one.user_id: one.item_ids for one in others} != first:
            raise ValueError(
                f"{files.folder} and {place.folders[0].folder} lie in one folder, but were judged "
                "on other users or choices: they are not seeds of one system"
            )


def _parts(place: _Place, judgements: tuple[Judgement, ...]) -> tuple[Part, ...]:
    return run_files.read_parts(place.folders[0].folder, judgements)


def _config(place: _Place | None) -> EvaluationConfig:
    """As the report was made, where there is one."""
    path = place.folders[0].folder / "report.json" if place else None
    if path is None or not path.is_file():
        return EvaluationConfig()
    facts = json.loads(path.read_text("utf-8"))["config"]
    known = {name: facts[name] for name in CONFIG}
    lists = {name: tuple(known[name]) for name in ("ks", "recall_ks")}
    return replace(EvaluationConfig(), **(known | lists))


def _summary(found: Comparison, files: ComparisonFiles) -> Summary:
    rows = []
    for name in (one for one in MEASURES if one in found.measures):
        one = found.measures[name]
        change = one.difference
        rows.append(
            (
                name,
                f"{one.a:.4f}",
                f"{one.b:.4f}",
                f"{change.mean:+.4f}",
                f"{change.low:+.4f} to {change.high:+.4f}",
                f"{change.p_value_holm:.4f}",
            )
        )
    return Summary(
        title="Compared",
        header=("", "A", "B", "B minus A", "interval", "p (Holm)"),
        rows=tuple(rows),
        notes=(
            *comparison_report.remarks(found),
            *(str(path) for path in (files.markdown, files.json, files.html)),
        ),
    )
