"""Drawings that can stand inside a page."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from evaluation import plots
from evaluation.drawing import COLORS
from evaluation.report import Report
from tests.evaluation.small_world import reasoned


def explained(report: Report) -> str:
    return plots.contributions(reasoned(report).explained[0], "explained-0")


DRAWINGS = [
    explained,
    plots.metric_bars,
    plots.recall_curve,
    plots.ablation_drops,
    plots.movements,
    plots.slice_changes,
    plots.latency_curve,
    plots.reliability,
]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_drawing_is_well_formed_scales_and_takes_its_colors_from_the_page(draw, report: Report):
    drawing = draw(report)
    root = ET.fromstring(drawing)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "var(--muted)" in drawing
    assert not set(COLORS) & set(re.findall(r"#[0-9a-f]{6}", drawing))
    assert "<text" in drawing
    assert "<metadata" not in drawing


@pytest.mark.parametrize("draw", DRAWINGS)
def test_equal_reports_give_equal_drawings(draw, report):
    assert draw(report) == draw(report)


def test_ids_of_two_drawings_never_meet_and_every_reference_is_kept(report):
    taken: set[str] = set()
    for draw in DRAWINGS:
        drawing = draw(report)
        ids = re.findall(r'\bid="([^"]+)"', drawing)
        assert not taken & set(ids)
        taken |= set(ids)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing)) <= set(ids)


def test_a_name_with_dollars_and_brackets_is_drawn_as_it_is(report):
    odd = replace(report.ablations[0], modality="$x<y$")
    drawing = plots.ablation_drops(replace(report, ablations=(odd,)))
    assert "$x&lt;y$" in drawing
