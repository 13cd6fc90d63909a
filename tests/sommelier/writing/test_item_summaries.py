"""Each item is written of once, as long as it shows the same; odd ones cost the others nothing."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.items import EPOCH, Modality
from embedders.summaries.base import Prompt, Unanswered, Unwritten
from embedders.summaries.config import SummaryConfig, WriterConfig
from embedders.summaries.item_summary import ItemSummarizer
from sommelier.set_aside import SetAside, TooManyRejects
from sommelier.writing.item_summaries import write_summaries
from tests.embedders.summaries.scripted import ScriptedWriter
from tests.sommelier.written_world import (
    EVENTS,
    run,
    summarizer,
    workspace,
    write_events,
    write_items,
)

TITLES = ("Chablis", "Barolo", "Rioja", "Cava", "Port", "Tokaj")
MODEL = SummaryConfig(writer=WriterConfig(engine="transformers", model="m"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path, TITLES)
    write_events(tmp_path, EVENTS)
    return tmp_path


def words(prompt: Prompt) -> str | Unwritten:
    title = next(one for one in (*TITLES, "Sherry") if one in prompt.text)
    return Unwritten("the model refused") if title == "Rioja" else f"A wine named {title}."


def test_every_item_gets_its_summary_as_of_its_content(folder: Path) -> None:
    opened = workspace(folder)
    tally = write_summaries(opened, summarizer(), run(opened))
    found = opened.store.read_texts(tally.source)
    assert (tally.written, tally.unchanged, tally.is_whole) == (6, 0, True)
    assert found["i0"].text == "Chablis: white."
    assert {one.event_timestamp for one in found.values()} == {EPOCH}


def test_a_second_run_asks_nothing_and_a_changed_item_is_asked_alone(folder: Path) -> None:
    writer = ScriptedWriter(words)
    opened = workspace(folder)
    write_summaries(opened, ItemSummarizer(MODEL, writer), run(opened))
    num_asked = len(writer.asked)

    write_items(folder, (*TITLES[:5], "Sherry"))
    began = datetime.now(UTC)
    opened = workspace(folder)
    tally = write_summaries(opened, ItemSummarizer(MODEL, writer), run(opened))

    assert ["Rioja" in one.text for one in writer.asked[num_asked:]] == [True, False]
    assert (tally.written, tally.unchanged, tally.rejected) == (1, 4, 1)
    changed = opened.store.read_texts(tally.source)["i5"]
    assert changed.text == "A wine named Sherry."
    assert changed.event_timestamp >= began  # no time is stated, so it is true from now on
    before = opened.store.read_texts(tally.source, as_of=began)
    assert before["i5"].text == "A wine named Tokaj."


def test_what_is_not_written_is_set_aside_and_costs_the_others_nothing(folder: Path) -> None:
    opened = workspace(folder)
    tally = write_summaries(opened, ItemSummarizer(MODEL, ScriptedWriter(words)), run(opened))
    assert (tally.written, tally.rejected) == (5, 1)
    (reject,) = opened.store.rejects()
    assert (reject.source, reject.key) == (tally.source.source_id, "i2")
    assert "the model refused" in reject.reason


def test_too_many_rejects_end_the_run_and_what_was_written_stays(folder: Path) -> None:
    opened = workspace(folder)
    strict = replace(run(opened), set_aside=SetAside(opened.store, limit=0))
    summaries = ItemSummarizer(MODEL, ScriptedWriter(words))
    with pytest.raises(TooManyRejects, match="--max-rejects allows 0"):
        write_summaries(opened, summaries, strict)
    assert [one for one, _ in opened.store.known_texts(summaries.source)] == ["i0", "i1", "i3"]


def test_a_run_whose_server_fell_silent_goes_on_where_it_was(folder: Path) -> None:
    """In the midst of a batch, too: what was answered of it is kept."""
    opened = workspace(folder)
    silent = ScriptedWriter(words, dies_after=3)
    with pytest.raises(Unanswered):
        write_summaries(opened, ItemSummarizer(MODEL, silent), run(opened, rows_per_batch=2))
    assert len(silent.asked) == 3

    again = ScriptedWriter(words)
    write_summaries(workspace(folder), ItemSummarizer(MODEL, again), run(opened))
    asked = [one.text for one in (*silent.asked, *again.asked)]
    assert sum("Rioja" in one for one in asked) == 2  # it was refused, and may be mended by now
    assert len(asked) == len(TITLES) + 1


def test_an_interrupted_run_keeps_what_is_written(folder: Path) -> None:
    def interrupted(prompt: Prompt) -> str | Unwritten:
        if "Port" in prompt.text:
            raise KeyboardInterrupt
        return words(prompt)

    opened = workspace(folder)
    summaries = ItemSummarizer(MODEL, ScriptedWriter(interrupted))
    with pytest.raises(KeyboardInterrupt):
        write_summaries(opened, summaries, run(opened, rows_per_batch=2))
    assert [one for one, _ in opened.store.known_texts(summaries.source)] == ["i0", "i1", "i3"]


def test_a_limit_asks_of_so_many_and_says_that_others_wait(folder: Path) -> None:
    opened = workspace(folder)
    tally = write_summaries(opened, summarizer(), run(opened, limit=2))
    assert (tally.written, tally.is_whole) == (2, False)
    assert [row_id for row_id, _ in tally.first] == ["i0", "i1"]
    rest = write_summaries(opened, summarizer(), run(opened, limit=4))
    assert (rest.written, rest.unchanged, rest.is_whole) == (4, 2, True)


def test_another_writer_writes_everything_anew_beside_the_first(folder: Path) -> None:
    opened = workspace(folder)
    first = write_summaries(opened, summarizer(), run(opened))
    other = write_summaries(opened, summarizer(attributes=("color",)), run(opened))
    assert other.source != first.source
    assert (other.written, other.unchanged) == (6, 0)
    assert len(opened.store.read_texts(first.source)) == 6


def test_an_item_that_shows_nothing_more_loses_its_summary(folder: Path) -> None:
    opened = workspace(folder)
    writer = ScriptedWriter(words)
    write_summaries(opened, ItemSummarizer(MODEL, writer), run(opened))
    path = folder / "catalog/items.jsonl"
    rows = path.read_text().splitlines()
    rows[0] = '{"item_id": "i0", "title": "\\u200b", "category": ""}'
    path.write_text("\n".join(rows))

    opened = workspace(folder)
    tally = write_summaries(opened, ItemSummarizer(MODEL, writer), run(opened))
    assert tally.lost == 1
    assert "i0" not in opened.store.read_texts(tally.source)


def test_a_picture_that_is_missing_is_a_reject_with_its_reason(folder: Path) -> None:
    path = folder / "catalog/items.jsonl"
    rows = path.read_text().splitlines()
    rows[0] = '{"item_id": "i0", "title": "Chablis", "image_path": "gone.png"}'
    path.write_text("\n".join(rows))
    opened = workspace(folder)
    sees = ItemSummarizer(MODEL, ScriptedWriter(words, reads=[Modality.IMAGE]))
    tally = write_summaries(opened, sees, run(opened))
    assert tally.rejected == 2
    assert "gone.png" in {one.key: one.reason for one in opened.store.rejects()}["i0"]
