"""A report in, one HTML page out that needs nothing else: no script, no font, no request.

Titles come from catalogs that strangers fill, so the template escapes everything; only our own
drawings are trusted as markup.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation import plots, summary
from evaluation.report import Report

TEMPLATE = "report.html.jinja"
EXAMPLE_ROWS = 10


def page(report: Report) -> str:
    """The page as text; light and dark follow the reader's system."""
    environment = Environment(
        loader=PackageLoader("evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "signed", "percent", "interval", "measure_name"):
        environment.filters[name] = getattr(summary, name)
    drawings = {
        "metrics": plots.metric_bars(report),
        "recall": plots.recall_curve(report),
        "movement": plots.movements(report),
    }
    if report.ablations:
        drawings["ablation"] = plots.ablation_drops(report)
    if report.slices:
        drawings["slices"] = plots.slice_changes(report)
    return environment.get_template(TEMPLATE).render(
        report=report,
        delta=report.delta[report.headline],
        headline=summary.headline(report),
        remarks=summary.remarks(report),
        route_names=summary.ROUTE_NAMES,
        facts=summary.facts(report),
        moment=str(report.manifest["cut"]).removesuffix("T00:00:00+00:00"),
        slice_name=plots.slice_name,
        drawings={name: Markup(drawing) for name, drawing in drawings.items()},
        example_rows=EXAMPLE_ROWS,
    )
