"""A report in, one HTML page out that needs nothing else: no script, no font, no request.

Titles come from catalogs that strangers fill, so the template escapes everything; only our own
drawings are trusted as markup.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation import plots, summary
from evaluation.ledger import Cause
from evaluation.report import Report

TEMPLATE = "report.html.jinja"
EXAMPLE_ROWS = 10
FILTERS = ("number", "signed", "percent", "interval", "reach", "measure_name", "cause_name")


def page(report: Report) -> str:
    """The page as text; light and dark follow the reader's system."""
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            delta=report.delta.get(report.headline),
            headline=summary.headline(report),
            remarks=summary.remarks(report),
            route_names=summary.ROUTE_NAMES,
            facts=summary.facts(report),
            moment=str(report.manifest["cut"]).removesuffix("T00:00:00+00:00"),
            slice_name=plots.slice_name,
            blocks=plots.shown_blocks(report.explained),
            causes=[cause.value for cause in reversed(Cause)],
            cause_meaning=summary.cause_meaning,
            drawings={
                name: Markup(drawing)  # nosec B704, for matplotlib escapes what it draws
                for name, drawing in _drawings(report).items()
            },
            example_rows=EXAMPLE_ROWS,
        )
    )


def environment() -> Environment:
    """Where our templates are, with our ways to write numbers; everything is escaped."""
    made = Environment(
        loader=PackageLoader("evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        made.filters[name] = getattr(summary, name)
    return made


def _drawings(report: Report) -> dict[str, str]:
    """What there is to draw; an evaluation of retrieval alone has less."""
    found = {"recall": plots.recall_curve(report), "metrics": plots.metric_bars(report)}
    if len(report.index.get("curve", ())) > 1:
        found["latency"] = plots.latency_curve(report)
    if report.movement:
        found["movement"] = plots.movements(report)
    if report.ablations:
        found["ablation"] = plots.ablation_drops(report)
    if report.slices and report.is_reranked:
        found["slices"] = plots.slice_changes(report)
    if "rerank" in report.scores and report.scores["rerank"].calibration:
        found["reliability"] = plots.reliability(report)
    for place, one in enumerate(report.explained):
        found[f"explained-{place}"] = plots.contributions(one, f"explained-{place}")
    return found
