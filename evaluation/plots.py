"""A report in, its plots as SVG text out, ready to stand inside a page.

The colors are placeholders that become CSS variables, so that one drawing serves light and dark.
Texts stay texts: they scale, can be searched and take the page's font. Equal reports give equal
drawings.
"""

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.report import Report
from evaluation.slices import label
from evaluation.summary import measure_name

# A color that matplotlib draws with -> the CSS variable that takes its place.
COLORS = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--rule",
    "#040404": "--popularity",
    "#050505": "--retrieval",
    "#060606": "--rerank",
    "#070707": "--loss",
}
INK, MUTED, RULE, POPULARITY, RETRIEVAL, RERANK, LOSS = COLORS
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a modality may be named with a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
WIDTH, HEIGHT = 5.2, 3.3  # inches: narrow enough that a telephone need not shrink the letters


def metric_bars(report: Report) -> str:
    """The headline's k: every metric for popularity, retrieval order and reranked."""
    k = report.headline.partition("@")[2]
    measures = [f"{name}@{k}" for name in ("ndcg", "hr", "recall", "mrr")]
    with mpl.rc_context(STYLE | {"svg.hashsalt": "metrics"}):
        figure, axes = _figure(HEIGHT)
        middles = np.arange(len(measures))
        routes = {"popularity": POPULARITY, "retrieval_order": RETRIEVAL, "rerank": RERANK}
        for place, (route, color) in zip((-1, 0, 1), routes.items(), strict=True):
            found = [report.routes[route][measure] for measure in measures]
            heights = np.array([one.mean for one in found])
            reach = [[one.mean - one.low for one in found], [one.high - one.mean for one in found]]
            axes.bar(middles + place * 0.26, heights, width=0.24, color=color)
            axes.errorbar(
                middles + place * 0.26, heights, yerr=reach, fmt="none", ecolor=INK, elinewidth=1
            )
        axes.set_xticks(middles, [measure_name(measure) for measure in measures])
        axes.tick_params(axis="x", labelcolor=INK)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        return _svg(figure, "metrics")


def recall_curve(report: Report) -> str:
    """Candidate recall by the number of candidates, retrieval against popularity."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "recall"}):
        figure, axes = _figure(HEIGHT)
        curve = report.curve
        lines = (
            ("Popularity", curve.popularity, POPULARITY),
            ("Retrieval", curve.retrieval, RETRIEVAL),
        )
        for name, values, color in lines:
            axes.plot(curve.ks, values, color=color, linewidth=2.4, solid_capstyle="round")
            axes.annotate(
                f"{name} {values[-1]:.0%}",
                (curve.ks[-1], values[-1]),
                xytext=(-2, 6),
                textcoords="offset points",
                ha="right",
                color=INK,
            )
        axes.set_xlabel("candidates kept")
        axes.set_xlim(0, curve.ks[-1])
        axes.set_ylim(0, max(*curve.retrieval, *curve.popularity, 0.01) * 1.18)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return _svg(figure, "recall")


def ablation_drops(report: Report) -> str:
    """What each modality is worth in the headline measure, with intervals. Needs an ablation."""
    drops = sorted(report.ablations, key=lambda one: (one.delta.mean, one.modality))
    with mpl.rc_context(STYLE | {"svg.hashsalt": "ablation"}):
        figure, axes = _figure(max(1.6, 0.62 * len(drops) + 0.9))
        for row, one in enumerate(drops):
            color = MUTED if one.delta.includes_zero else RERANK if one.delta.mean > 0 else LOSS
            _whisker(axes, row, one.delta.low, one.delta.mean, one.delta.high, color)
        _rows(axes, [one.modality for one in drops])
        axes.set_xlabel(f"{measure_name(report.headline)} lost without it")
        return _svg(figure, "ablation")


def movements(report: Report) -> str:
    """How far reranking moved the chosen items that retrieval had found."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "movement"}):
        figure, axes = _figure(HEIGHT)
        labels = [label for label, _ in report.movement.bins]
        counts = [count for _, count in report.movement.bins]
        colors = [
            LOSS if label.endswith("down") else MUTED if label == "same" else RERANK
            for label in labels
        ]
        places = np.arange(len(labels))
        axes.bar(places, counts, width=0.82, color=colors)
        short = [label.partition(" ")[0].replace("-", "\N{EN DASH}") for label in labels]
        axes.set_xticks(places, short, rotation=35)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("places moved: down to the left, up to the right")
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        return _svg(figure, "movement")


def slice_changes(report: Report) -> str:
    """The change of NDCG in every slice, with intervals."""
    parts = report.slices[::-1]
    with mpl.rc_context(STYLE | {"svg.hashsalt": "slices"}):
        figure, axes = _figure(max(1.6, 0.46 * len(parts) + 0.9))
        for row, one in enumerate(parts):
            color = MUTED if one.delta.includes_zero else RERANK if one.delta.mean > 0 else LOSS
            _whisker(axes, row, one.delta.low, one.delta.mean, one.delta.high, color)
        _rows(axes, [slice_name(one.group, one.name) for one in parts])
        axes.set_xlabel(f"change of {measure_name(report.slice_measure)}")
        return _svg(figure, "slices")


def slice_name(group: str, name: str) -> str:
    """`items`, `cold` -> `cold items`; `history`, `5-9` -> `5 to 9 met before`, with a dash."""
    return re.sub(r"(?<=\d)-(?=\d)", "\N{EN DASH}", label(group, name))


def _figure(height: float) -> tuple[Figure, Axes]:
    """Without pyplot: no global state, no window, no figure left open."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _whisker(axes: Axes, row: int, low: float, mean: float, high: float, color: str) -> None:
    axes.plot([low, high], [row, row], color=color, linewidth=3, solid_capstyle="round")
    axes.plot([mean], [row], marker="o", markersize=8, color=color)


def _rows(axes: Axes, labels: list[str]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def _svg(figure: Figure, name: str) -> str:
    """The drawing alone: no prolog, no metadata, ids of its own, colors as variables."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\bid="', f'id="{name}-', drawing)
    drawing = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\1{name}-", drawing)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r"font: (\d+)px 'DejaVu Sans'[^;\"]*", r"font-size: \1px", drawing)
    for color, variable in COLORS.items():
        drawing = drawing.replace(color, f"var({variable})")
    return drawing
