"""A report in, its plots as SVG text out, ready to stand inside a page."""

import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from evaluation.drawing import (
    BLOCK_COLORS,
    HEIGHT,
    INK,
    LOSS,
    MUTED,
    POPULARITY,
    RERANK,
    RETRIEVAL,
    drawing,
    figure,
    rows,
    svg,
    whisker,
)
from evaluation.example import Explained, ExplainedItem
from evaluation.report import Report
from evaluation.slices import label
from evaluation.summary import measure_name, percent

DOTTED = (0, (2, 2))
LONGEST_TITLE = 26  # characters beside a bar


def metric_bars(report: Report) -> str:
    """The headline's k: every metric for popularity, retrieval order and reranked."""
    k = report.headline.partition("@")[2]
    measures = [f"{name}@{k}" for name in ("ndcg", "hr", "recall", "mrr")]
    with drawing("metrics"):
        drawn, axes = figure(HEIGHT)
        middles = np.arange(len(measures))
        routes = {"popularity": POPULARITY, "retrieval_order": RETRIEVAL, "rerank": RERANK}
        shown = [one for one in routes.items() if one[0] in report.routes]
        for place, (route, color) in enumerate(shown, start=-1):
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
        return svg(drawn, "metrics")


def recall_curve(report: Report) -> str:
    """Candidate recall by the number of candidates: to K, and of exact search to the catalog."""
    curve = report.curve
    lines = [(curve.ks, curve.popularity, POPULARITY), (curve.ks, curve.retrieval, RETRIEVAL)]
    top = max(*curve.retrieval, *curve.popularity, *curve.exact, 0.01)
    with drawing("recall"):
        drawn, axes = figure(HEIGHT)
        axes.plot(curve.exact_ks, curve.exact, color=MUTED, linewidth=2.4, linestyle=DOTTED)
        for ks, values, color in lines:
            axes.plot(ks, values, color=color, linewidth=2.4)
        axes.axvline(curve.ks[-1], color=INK, linewidth=0.8)
        axes.annotate(
            f"K = {curve.ks[-1]}: {percent(curve.retrieval[-1])}",
            (curve.ks[-1], curve.retrieval[-1]),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            color=INK,
        )
        if curve.infinity is not None:
            axes.annotate(
                f"any K: {percent(curve.infinity)}",
                (curve.exact_ks[-1], curve.infinity),
                xytext=(0, 6),
                textcoords="offset points",
                ha="right",
                color=INK,
            )
        axes.set_xscale("log")
        axes.set_xlim(1, (curve.exact_ks or curve.ks)[-1])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.set_xlabel("candidates kept")
        axes.set_ylim(0, top * 1.15)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return svg(drawn, "recall")


def latency_curve(report: Report) -> str:
    """The index's recall of exact search by what a query takes. Needs a measured curve."""
    points = report.index["curve"]
    with drawing("latency"):
        drawn, axes = figure(HEIGHT)
        axes.plot(
            [one["p50_ms"] for one in points],
            [one["recall"] for one in points],
            color=RETRIEVAL,
            linewidth=2.4,
            marker="o",
        )
        for one in points:
            is_used = one["effort"] == report.index.get("effort")
            axes.annotate(
                f"{one['effort']}" + (" (used)" if is_used else ""),
                (one["p50_ms"], one["recall"]),
                xytext=(0, -15),
                textcoords="offset points",
                ha="center",
                color=INK if is_used else MUTED,
            )
        axes.margins(x=0.12, y=0.18)
        axes.set_xlabel("milliseconds a query, the median; points: effort")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        return svg(drawn, "latency")


def reliability(report: Report) -> str:
    """What the final scores promise as chances, against what happened. Needs a calibration."""
    found = report.scores["rerank"].calibration
    assert found is not None
    with drawing("reliability"):
        drawn, axes = figure(HEIGHT)
        promised = [one.mean for one in found.bins]
        kept = [one.share for one in found.bins]
        top = max(*promised, *kept, 0.01) * 1.08
        axes.plot([0, top], [0, top], color=INK, linewidth=0.8)
        axes.plot(promised, kept, color=RERANK, linewidth=2.4, marker="o", markersize=5)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_xlabel("promised by the score")
        axes.set_ylabel("really chosen")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: percent(value))
        return svg(drawn, "reliability")


def ablation_drops(report: Report) -> str:
    """What each modality is worth in the headline measure, with intervals. Needs an ablation."""
    drops = sorted(report.ablations, key=lambda one: (one.delta.mean, one.modality))
    with drawing("ablation"):
        drawn, axes = figure(max(1.6, 0.62 * len(drops) + 0.9))
        for row, one in enumerate(drops):
            color = MUTED if one.delta.includes_zero else RERANK if one.delta.mean > 0 else LOSS
            whisker(axes, row, one.delta.low, one.delta.mean, one.delta.high, color)
        rows(axes, [one.modality for one in drops])
        axes.set_xlabel(f"{measure_name(report.headline)} lost without it")
        return svg(drawn, "ablation")


def movements(report: Report) -> str:
    """How far reranking moved the chosen items that retrieval had found. Needs a reranking."""
    assert report.movement is not None
    with drawing("movement"):
        drawn, axes = figure(HEIGHT)
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
        return svg(drawn, "movement")


def slice_changes(report: Report) -> str:
    """The change of NDCG in every slice, with intervals."""
    parts = report.slices[::-1]
    with drawing("slices"):
        drawn, axes = figure(max(1.6, 0.46 * len(parts) + 0.9))
        for row, one in enumerate(parts):
            color = MUTED if one.delta.includes_zero else RERANK if one.delta.mean > 0 else LOSS
            whisker(axes, row, one.delta.low, one.delta.mean, one.delta.high, color)
        rows(axes, [slice_name(one.group, one.name) for one in parts])
        axes.set_xlabel(f"change of {measure_name(report.slice_measure)}")
        return svg(drawn, "slices")


def slice_name(group: str, name: str) -> str:
    """`items`, `cold` -> `cold items`; `history`, `5-9` -> `5 to 9 met before`, with a dash."""
    return re.sub(r"(?<=\d)-(?=\d)", "\N{EN DASH}", label(group, name))


def contributions(one: Explained, name: str) -> str:
    """What each block adds to the scores of a user's items: gains to the right of nothing, losses
    to the left, and a point where they come to together."""
    items = one.items[::-1]
    with drawing(name):
        drawn, axes = figure(max(1.6, 0.4 * len(items) + 0.9))
        ends = {True: np.zeros(len(items)), False: np.zeros(len(items))}
        for block in shown_blocks([one]):
            values = np.array([item.contributions.get(block, 0.0) for item in items])
            for is_gain, end in ends.items():
                part = np.maximum(values, 0.0) if is_gain else np.minimum(values, 0.0)
                axes.barh(np.arange(len(items)), part, left=end, height=0.66,
                          color=BLOCK_COLORS[block])  # fmt: skip
                end += part
        sums = [sum(item.contributions.values()) for item in items]
        axes.plot(sums, np.arange(len(items)), linestyle="none", marker="o", markersize=5,
                  color=INK)  # fmt: skip
        rows(axes, [_beside(item) for item in items])
        axes.set_xlabel("added to the score")
        return svg(drawn, name)


def shown_blocks(explained: Sequence[Explained]) -> list[str]:
    """The blocks that add anything to any of these items, by name."""
    found = {
        block
        for one in explained
        for item in one.items
        for block, value in item.contributions.items()
        if value
    }
    return [block for block in BLOCK_COLORS if block in found]


def _beside(item: ExplainedItem) -> str:
    """An item's rank and title, as long as there is room; a star where it was chosen."""
    star = "\N{BLACK STAR} " if item.is_chosen else ""
    title = item.title
    if len(title) > LONGEST_TITLE:
        title = title[: LONGEST_TITLE - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{star}{item.rank}  {title}"
