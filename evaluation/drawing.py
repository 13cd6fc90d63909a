"""Axes in, SVG text out, ready to stand inside a page: what all plots share.

The colors are placeholders that become CSS variables, so that one drawing serves light and dark.
Texts stay texts: they scale, can be searched and take the page's font. Equal input gives equal
drawings.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrieval.concatenated import BLOCKS

# A color that matplotlib draws with -> the CSS variable that takes its place.
COLORS = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--rule",
    "#040404": "--popularity",
    "#050505": "--retrieval",
    "#060606": "--rerank",
    "#070707": "--loss",
    "#080808": "--audio",
    "#090909": "--graph",
    "#0a0a0a": "--image",
    "#0b0b0b": "--sequence",
    "#0c0c0c": "--summary",
    "#0d0d0d": "--text",
}
INK, MUTED, RULE, POPULARITY, RETRIEVAL, RERANK, LOSS, *_ = COLORS
BLOCK_COLORS = dict(zip(BLOCKS, list(COLORS)[-len(BLOCKS) :], strict=True))
"""Each block of vectors, by name."""
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


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Our style, and ids that are this drawing's own."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        yield


def figure(height: float) -> tuple[Figure, Axes]:
    """Without pyplot: no global state, no window, no figure left open."""
    drawn = Figure(figsize=(WIDTH, height), layout="constrained")
    return drawn, drawn.add_subplot()


def whisker(axes: Axes, row: int, low: float, mean: float, high: float, color: str) -> None:
    axes.plot([low, high], [row, row], color=color, linewidth=3, solid_capstyle="round")
    axes.plot([mean], [row], marker="o", markersize=8, color=color)


def rows(axes: Axes, labels: list[str]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def svg(drawn: Figure, name: str) -> str:
    """The drawing alone: no prolog, no metadata, ids of its own, colors as variables."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
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
