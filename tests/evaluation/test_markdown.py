"""The whole report as Markdown."""

from dataclasses import replace

from evaluation.markdown import markdown
from evaluation.summary import headline


def test_markdown_holds_the_numbers_and_breaks_no_table(report):
    hostile = replace(report, manifest=dict(report.manifest) | {"catalog": "a|b\nc <b>"})
    text = markdown(hostile)
    assert headline(report) in text
    assert "| num_without_history | 41 |" in text
    assert r"a\|b c &lt;b&gt;" in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


def test_markdown_takes_scores_apart(told_why):
    text = markdown(told_why)
    assert "| User | Rank | Item | Without vectors | audio | graph | image | text | Score |" in text
    assert "(chosen)" in text
    assert "| asked about purchase |" in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


def test_markdown_needs_no_ablation(report):
    assert "Without one modality" not in markdown(replace(report, ablations=()))


def test_markdown_says_where_choices_got_lost(report):
    text = markdown(report)
    assert "| Delivered: among the first 10 of the final order | 330 | 52% |" in text
    assert "| all choices | 635 | 100% |" in text


def test_retrieval_alone_has_no_column_of_reranking(alone):
    text = markdown(alone)
    assert "## In retrieval's order" in text
    assert "Reranked" not in text
