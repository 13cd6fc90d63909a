"""Answers become durable or are told why not; a batch is as large as its engine wants it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.summaries.base import Unwritten, Usage
from embedders.summaries.config import WriterConfig
from embedders.texts import TextKind, TextSource
from feature_repo.store import Store
from sommelier.writing.told import Answered, Tally, keep, rows_per_batch, spent

SOURCE = TextSource(kind=TextKind.SUMMARY, writer="w", revision="1", prompt="p")
MODEL = WriterConfig(engine="transformers", model="m", batch_size=6)
SERVER = WriterConfig(engine="openai", model="m", url="http://localhost/v1", concurrency=5)


def answered(row_id: str, answer: str | Unwritten) -> Answered:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    return Answered(row_id=row_id, answer=answer, content_hash="h", event_timestamp=moment)


def test_texts_are_kept_and_the_others_come_back_with_their_reasons(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rejects = keep(store, SOURCE, [answered("a", "red"), answered("b", Unwritten("too odd"))])
    assert {key: one.text for key, one in store.read_texts(SOURCE).items()} == {"a": "red"}
    assert [(one.source, one.key, one.reason) for one in rejects] == [
        (SOURCE.source_id, "b", "too odd")
    ]


def test_nothing_answered_leaves_no_part(tmp_path: Path) -> None:
    keep(Store(tmp_path), SOURCE, [answered("b", Unwritten("too odd"))])
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_tally_counts_and_shows_the_first_texts_alone() -> None:
    tally = Tally(what="items", source=SOURCE)
    tally.add([answered(str(n), "red") for n in range(7)] + [answered("b", Unwritten("odd"))])
    assert (tally.written, tally.rejected, len(tally.first)) == (7, 1, 5)


def test_a_batch_keeps_its_engine_busy() -> None:
    assert rows_per_batch(MODEL) % MODEL.batch_size == 0
    assert rows_per_batch(SERVER) > SERVER.concurrency
    assert rows_per_batch(WriterConfig()) > rows_per_batch(MODEL)


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ({}, "2,000,000 tokens in, 500,000 out, 3 asked again"),
        ({"input_price": 1.0}, "2,000,000 tokens in, 500,000 out, 3 asked again"),
        (
            {"input_price": 1.0, "output_price": 4.0},
            "2,000,000 tokens in, 500,000 out, 3 asked again, 4.0000 spent",
        ),
    ],
)
def test_what_is_spent_is_told_in_tokens_and_where_prices_are_known_in_money(
    prices: dict[str, float], told: str
) -> None:
    usage = Usage(num_prompts=9, input_tokens=2_000_000, output_tokens=500_000, num_retries=3)
    config = WriterConfig(engine="openai", model="m", url="http://localhost/v1", **prices)
    assert spent(usage, config) == told


def test_what_costs_nothing_says_nothing() -> None:
    assert spent(Usage(), WriterConfig()) == ""
