"""One page, safe to open and complete in itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from evaluation.page import page
from evaluation.summary import headline
from tests.evaluation.small_world import HOSTILE

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Outline(HTMLParser):
    """Tags that are open at the end, and every tag seen."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes.extend(attrs)


@pytest.fixture(scope="module")
def html(report):
    return page(report)


def outlined(html):
    outline = Outline()
    outline.feed(html)
    return outline


def test_the_page_asks_for_nothing_and_runs_nothing(html):
    outline = outlined(html)
    assert not outline.open
    assert not outline.seen & {"script", "link", "iframe", "img", "object", "embed"}
    for name, value in outline.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset"):
            assert value.startswith("#")
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_a_hostile_title_stays_a_title(html):
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(&#39;corked&#39;)&lt;/script&gt;" in html


def test_a_hostile_modality_and_manifest_stay_text(report):
    attack = '"><img src=x onerror=alert(1)>'
    html = page(
        replace(
            report,
            ablations=tuple(replace(one, modality=attack) for one in report.ablations),
            manifest=dict(report.manifest) | {attack: attack, "generation_id": attack},
            example=replace(report.example, user_id=attack, why=attack),
        )
    )
    assert "img" not in outlined(html).seen


def test_the_headline_comes_first_and_all_plots_are_there(report, html):
    assert headline(report) in html
    assert html.count("<svg") == 7
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_scores_taken_apart_are_drawn_for_each_user_and_hostile_titles_stay_titles(told_why, html):
    page_ = page(told_why)
    assert page_.count("<svg") == html.count("<svg") + 2
    assert "What scores are made of" in page_
    assert "Behavior by behavior" in page_
    assert '<li class="graph">graph</li>' in page_
    assert '<li class="text">text</li>' in page_, "it adds something to the second user's item"
    assert '<li class="sequence">' not in page_
    assert HOSTILE not in page_
    assert not outlined(page_).seen & {"script", "img"}
    assert "What scores are made of" not in html


def test_moves_are_shown_both_ways(html):
    assert "▲" in html
    assert "▼" in html


def test_a_page_needs_neither_ablations_nor_an_example(report):
    html = page(replace(report, ablations=(), example=None, slices=()))
    assert html.count("<svg") == 5
    assert "One user" not in html


def test_the_ledger_is_a_bar_for_everything_and_one_for_each_slice(report, html):
    assert html.count('class="ledger ') == 1 + len(report.ledger.parts)
    assert 'title="Delivered: 52%"' in html
    assert "among the first 10 of the final order" in html


def test_a_page_of_retrieval_alone_says_nothing_of_reranking(alone):
    html = page(alone)
    assert html.count("<svg") == 4
    assert "Stage two" not in html
    assert "Nothing was reranked" in html


def test_a_page_of_two_populations_says_so(mixed):
    html = page(mixed)
    assert "candidates for 300 users" in html
    assert "then reranked, for 60 users" in html


def test_a_page_needs_no_exact_search(report):
    bare = replace(
        report,
        ledger=None,
        index_loss=None,
        index={},
        curve=replace(report.curve, exact=(), exact_ks=(), infinity=None),
        whole_lists={},
    )
    html = page(bare)
    assert "Where choices got lost" not in html
    assert html.count("<svg") == 6
