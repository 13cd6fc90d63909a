"""The verb: what is embedded, what is skipped, and from when the vectors are true."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.embed import Batch, embed
from embedders.items import EPOCH, Item, Modality
from embedders.vectors import Space

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = datetime(2020, 1, 1, tzinfo=UTC)


class Lengths(Embedder):
    """A title as its length, and all calls counted."""

    space = Space(modality=Modality.TEXT, encoder="lengths", revision="1", dim=2)

    def __init__(self) -> None:
        self.fingerprinted: list[str] = []
        self.encoded: list[list[str]] = []

    def fingerprint(self, item: Item) -> str | None:
        self.fingerprinted.append(item.item_id)
        if item.title == "lost":
            raise BadContent("no such file")
        return f"#{item.title}" if item.title else None

    def load(self, item: Item) -> str:
        return item.title

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        self.encoded.append(list(contents))
        if "odd" in contents:
            raise ValueError("cannot read odd")
        return np.array([(len(text), 1) for text in contents], dtype=np.float32)


def items(*titles: str) -> list[Item]:
    return [Item(item_id=f"{n}", title=title) for n, title in enumerate(titles)]


def run(embedder: Embedder, what: Sequence[Item], **options: Any) -> list[Batch]:
    return list(embed(embedder, what, **{"known": {}, "now": NOW, **options}))


def test_batches_hold_so_many_contents_and_together_every_item() -> None:
    embedder = Lengths()

    batches = run(embedder, items(*"abcde"), batch_size=2)

    assert [batch.embeddings.item_ids for batch in batches] == [["0", "1"], ["2", "3"], ["4"]]
    assert [batch.content_hashes for batch in batches] == [["#a", "#b"], ["#c", "#d"], ["#e"]]
    assert embedder.encoded == [["a", "b"], ["c", "d"], ["e"]]


def test_each_item_is_fingerprinted_once() -> None:
    embedder = Lengths()

    run(embedder, items("a", "", "lost", "d"), known={"3": "#d"})

    assert embedder.fingerprinted == ["0", "1", "2", "3"]


def test_unchanged_items_are_counted_and_not_encoded() -> None:
    embedder = Lengths()

    (batch,) = run(embedder, items("a", "b", "c"), known={"0": "#a", "1": "#old", "9": "#c"})

    assert batch.num_unchanged == 1
    assert batch.embeddings.item_ids == ["1", "2"]
    assert embedder.encoded == [["b", "c"]]


def test_unchanged_items_do_not_make_batches_smaller() -> None:
    embedder = Lengths()

    batches = run(embedder, items(*"abcde"), known={"1": "#b", "2": "#c"}, batch_size=2)

    assert embedder.encoded == [["a", "d"], ["e"]]
    assert [batch.num_unchanged for batch in batches] == [2, 0]


def test_a_run_in_which_nothing_is_new_says_so() -> None:
    (batch,) = run(Lengths(), items("a", "b"), known={"0": "#a", "1": "#b"})

    assert len(batch.embeddings) == 0
    assert batch.num_unchanged == 2


def test_no_items_make_no_batch() -> None:
    assert run(Lengths(), []) == []
    assert run(Lengths(), items("", "")) == []


def test_lists_stay_parallel_when_the_encoder_rejects_an_item() -> None:
    (batch,) = run(Lengths(), items("lost", "a", "odd", "c"))

    assert batch.embeddings.item_ids == ["1", "3"]
    assert batch.content_hashes == ["#a", "#c"]
    assert len(batch.event_timestamps) == 2
    assert [(reject.key, reject.reason) for reject in batch.rejects] == [
        ("0", "no such file"),
        ("2", "cannot read odd"),
    ]


def test_rejects_fill_a_batch_too_so_that_they_never_pile_up() -> None:
    batches = run(Lengths(), items(*["lost"] * 5), batch_size=2)

    assert [len(batch.rejects) for batch in batches] == [2, 2, 1]


def test_no_more_is_read_than_one_batch_ahead() -> None:
    taken: list[str] = []

    def stream() -> Iterator[Item]:
        for item in items(*"abcdef"):
            taken.append(item.item_id)
            yield item

    next(embed(Lengths(), stream(), known={}, batch_size=2))

    assert taken == ["0", "1"]


def test_progress_is_the_number_of_items_seen() -> None:
    seen: list[int] = []

    run(Lengths(), items("a", "", "lost", "d", "e"), batch_size=2, on_progress=seen.append)

    assert seen == [2, 4, 5]


def test_a_vector_is_true_from_the_time_that_the_catalog_states_and_else_from_the_epoch() -> None:
    dated, undated = items("a", "b")
    dated = replace(dated, created_at=CREATED)

    (batch,) = run(Lengths(), [dated, undated])

    assert batch.event_timestamps == [CREATED, EPOCH]


def test_changed_content_without_a_stated_time_is_true_from_now() -> None:
    dated, undated = items("a", "b")
    dated = replace(dated, updated_at=CREATED)

    (batch,) = run(Lengths(), [dated, undated], known={"0": "#old", "1": "#old"})

    assert batch.event_timestamps == [CREATED, NOW]


def test_vectors_trained_on_events_are_true_from_the_training_cut() -> None:
    embedder = Lengths()
    embedder.until = CREATED

    (batch,) = run(embedder, items("a"))

    assert batch.event_timestamps == [CREATED]


def test_graph_vectors_without_a_cut_are_true_from_now_as_they_know_every_event() -> None:
    embedder = Lengths()
    embedder.space = replace(Lengths.space, modality=Modality.GRAPH)

    (batch,) = run(embedder, items("a"))

    assert batch.event_timestamps == [NOW]


def test_now_is_the_clock_unless_it_is_given() -> None:
    before = datetime.now(UTC)

    (batch,) = run(Lengths(), items("a"), known={"0": "#old"}, now=None)

    assert before <= batch.event_timestamps[0] <= datetime.now(UTC)


def test_an_impossible_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run(Lengths(), items("a"), batch_size=0)
