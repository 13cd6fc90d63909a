"""The verb: what is embedded, what is skipped, and from when the vectors are true."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.embed import Batch, embed
from embedders.items import EPOCH, Item, Modality
from embedders.known import DELETED, Known
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


def known(content_hash: str, *, since: datetime = EPOCH, created: datetime = CREATED) -> Known:
    return Known(content_hash, since, created)


def run(
    embedder: Embedder,
    what: Sequence[Item],
    *,
    rows: Mapping[str, Known] | None = None,
    **options: Any,
) -> list[Batch]:
    pairs = [(item, (rows or {}).get(item.item_id)) for item in what]
    return list(embed(embedder, pairs, **{"now": NOW, **options}))


def test_batches_hold_so_many_contents_and_together_every_item() -> None:
    embedder = Lengths()

    batches = run(embedder, items(*"abcde"), batch_rows=2)

    assert [batch.embeddings.item_ids for batch in batches] == [["0", "1"], ["2", "3"], ["4"]]
    assert [batch.content_hashes for batch in batches] == [["#a", "#b"], ["#c", "#d"], ["#e"]]
    assert embedder.encoded == [["a", "b"], ["c", "d"], ["e"]]


def test_each_item_is_fingerprinted_once() -> None:
    embedder = Lengths()

    run(embedder, items("a", "", "lost", "d"), rows={"3": known("#d")})

    assert embedder.fingerprinted == ["0", "1", "2", "3"]


def test_unchanged_items_are_counted_and_not_encoded() -> None:
    embedder = Lengths()

    (batch,) = run(
        embedder,
        items("a", "b", "c"),
        rows={"0": known("#a"), "1": known("#old"), "9": known("#c")},
    )

    assert batch.num_unchanged == 1
    assert batch.embeddings.item_ids == ["1", "2"]
    assert embedder.encoded == [["b", "c"]]


def test_unchanged_items_do_not_make_batches_smaller() -> None:
    embedder = Lengths()

    batches = run(
        embedder, items(*"abcde"), rows={"1": known("#b"), "2": known("#c")}, batch_rows=2
    )

    assert embedder.encoded == [["a", "d"], ["e"]]
    assert [batch.num_unchanged for batch in batches] == [2, 0]


def test_a_run_in_which_nothing_is_new_says_so() -> None:
    (batch,) = run(Lengths(), items("a", "b"), rows={"0": known("#a"), "1": known("#b")})

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
    batches = run(Lengths(), items(*["lost"] * 5), batch_rows=2)

    assert [len(batch.rejects) for batch in batches] == [2, 2, 1]


@pytest.mark.parametrize("num_workers", [0, 3])
def test_at_most_two_batches_of_contents_are_held(num_workers: int) -> None:
    taken: list[str] = []

    def stream() -> Iterator[tuple[Item, None]]:
        for item in items(*"abcdefghijklmnopqrst"):
            taken.append(item.item_id)
            yield item, None

    batches = embed(Lengths(), stream(), batch_rows=6, num_workers=num_workers)

    next(batches)
    assert 6 <= len(taken) <= 12
    next(batches)
    assert 12 <= len(taken) <= 18
    batches.close()  # type: ignore[attr-defined]


def test_progress_counts_the_items_that_are_dealt_with() -> None:
    embedder = Lengths()
    pairs = [(item, None) for item in items("a", "", "lost", "d", "e", "f")]
    seen: list[int] = []

    for _ in embed(embedder, pairs, batch_rows=2, on_progress=seen.append):
        assert not seen or seen[-1] < 6, "the last batch is not written yet"

    assert seen == sorted(seen)
    assert seen[-1] == 6


def test_a_vector_is_true_from_the_time_that_the_catalog_states_and_else_from_the_epoch() -> None:
    dated, undated = items("a", "b")
    dated = replace(dated, created_at=CREATED)

    (batch,) = run(Lengths(), [dated, undated])

    assert batch.event_timestamps == [CREATED, EPOCH]


def test_changed_content_without_a_stated_time_is_true_from_now() -> None:
    dated, undated = items("a", "b")
    dated = replace(dated, updated_at=CREATED)

    (batch,) = run(Lengths(), [dated, undated], rows={"0": known("#old"), "1": known("#old")})

    assert batch.event_timestamps == [CREATED, NOW]


def test_vectors_trained_on_events_are_true_from_the_training_cut() -> None:
    embedder = Lengths()
    embedder.until = CREATED

    (batch,) = run(embedder, items("a"))

    assert batch.event_timestamps == [CREATED]


def test_weights_tuned_on_events_read_an_item_that_came_later_from_when_it_came() -> None:
    embedder = Lengths()
    embedder.until = CREATED
    later, earlier = (
        replace(item, created_at=moment)
        for item, moment in zip(items("a", "b"), (NOW, EPOCH), strict=True)
    )
    (batch,) = run(embedder, [later, earlier])
    assert batch.event_timestamps == [NOW, CREATED]
    embedder.is_looked_up = True  # vectors that were made elsewhere hold from their cut
    (batch,) = run(embedder, [later, earlier])
    assert batch.event_timestamps == [CREATED, CREATED]


def test_graph_vectors_without_a_cut_are_true_from_now_as_they_know_every_event() -> None:
    embedder = Lengths()
    embedder.space = replace(Lengths.space, modality=Modality.GRAPH)

    (batch,) = run(embedder, items("a"))

    assert batch.event_timestamps == [NOW]


def test_now_is_the_clock_unless_it_is_given() -> None:
    before = datetime.now(UTC)

    (batch,) = run(Lengths(), items("a"), rows={"0": known("#old")}, now=None)

    assert before <= batch.event_timestamps[0] <= datetime.now(UTC)


@pytest.mark.parametrize("stated", [None, CREATED, datetime(2019, 1, 1, tzinfo=UTC)])
def test_changed_content_is_never_true_from_before_the_known_row(stated: datetime | None) -> None:
    changed = replace(*items("a"), updated_at=stated)

    (batch,) = run(Lengths(), [changed], rows={"0": known("#old", since=CREATED)})

    assert batch.event_timestamps == [NOW]


def test_changed_content_is_true_from_a_stated_time_that_is_later_than_the_known_row() -> None:
    changed = replace(*items("a"), updated_at=CREATED)
    earlier = known("#old", since=datetime(2019, 1, 1, tzinfo=UTC))

    (batch,) = run(Lengths(), [changed], rows={"0": earlier})

    assert batch.event_timestamps == [CREATED]


def test_a_row_that_is_true_only_in_days_to_come_gives_way_to_changed_content() -> None:
    release = datetime(2030, 1, 1, tzinfo=UTC)
    changed = replace(*items("a"), created_at=release)

    (batch,) = run(Lengths(), [changed], rows={"0": known("#old", since=release)})

    assert batch.event_timestamps == [release]


def test_an_item_that_came_back_is_embedded_and_true_from_now() -> None:
    dated = replace(*items("a"), created_at=CREATED)

    (batch,) = run(Lengths(), [dated], rows={"0": known(DELETED)})

    assert batch.embeddings.item_ids == ["0"]
    assert batch.event_timestamps == [NOW]


def test_a_repair_embeds_old_rows_again_and_leaves_their_time() -> None:
    since = datetime(2021, 5, 5, tzinfo=UTC)
    rows = {
        "0": known("#a", since=since, created=CREATED),
        "1": known("#b", since=since, created=NOW),
        "2": known("#old", since=since, created=CREATED),
    }

    (batch,) = run(Lengths(), items("a", "b", "c"), rows=rows, renew_before=NOW)

    assert batch.embeddings.item_ids == ["0", "2"]
    assert batch.event_timestamps == [since, NOW]
    assert batch.num_unchanged == 1


def test_an_item_that_lost_its_content_is_named_and_one_that_never_had_any_is_not() -> None:
    rows = {"0": known("#gone"), "2": known(DELETED)}

    (batch,) = run(Lengths(), items("", "", ""), rows=rows)

    assert batch.lost_ids == ["0"]
    assert len(batch.embeddings) == 0


class Imputing(Lengths):
    """Where there is no title, the vector of an empty one."""

    def fingerprint(self, item: Item) -> str | None:
        return super().fingerprint(item) or "#"

    def is_imputed(self, item: Item) -> bool:
        return not item.title


def test_imputed_vectors_are_marked() -> None:
    (batch,) = run(Imputing(), items("a", "", "odd", "b"))

    assert batch.embeddings.item_ids == ["0", "1", "3"]
    assert batch.imputed == [False, True, False]


class Slow(Lengths):
    """Contents that take their time, the first ones most; at most so many threads at once."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def load(self, item: Item) -> str:
        time.sleep(0.004 if int(item.item_id) % 40 < 20 else 0)
        self.threads.add(threading.current_thread().name)
        if item.title == "fatal":
            raise RuntimeError("the disk is gone")
        return item.title


def facts(batches: list[Batch]) -> list[tuple[Any, ...]]:
    return [
        (
            list(one.embeddings.item_ids),
            one.content_hashes,
            one.rejects,
            one.num_unchanged,
            one.embeddings.vectors_ND.tobytes(),
        )
        for one in batches
    ]


def test_batches_are_the_same_whatever_the_number_of_workers() -> None:
    titles = [["a", "lost", "", "odd", "bcd", "known"][n % 6] + "x" * (n % 3) for n in range(100)]
    rows = {f"{n}": known(f"#{title}") for n, title in enumerate(titles) if "known" in title}
    alone = Slow()
    expected = facts(run(alone, items(*titles), rows=rows, batch_rows=7))
    assert alone.threads == {threading.main_thread().name}
    for num_workers in (1, 2, 5):
        embedder = Slow()
        found = run(embedder, items(*titles), rows=rows, batch_rows=7, num_workers=num_workers)
        assert facts(found) == expected
    assert not any(name == threading.main_thread().name for name in embedder.threads)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_nothing_is_encoded_beyond_the_batch_that_was_given_out(num_workers: int) -> None:
    embedder = Lengths()
    pairs = [(item, None) for item in items(*["a"] * 50)]
    for place, _ in enumerate(
        embed(embedder, pairs, batch_rows=4, num_workers=num_workers), start=1
    ):
        assert len(embedder.encoded) == place


@pytest.mark.parametrize("num_workers", [0, 3])
def test_what_a_worker_raises_reaches_the_caller(num_workers: int) -> None:
    titles = ["a"] * 30 + ["fatal"] + ["b"] * 30
    batches = embed(
        Slow(), [(item, None) for item in items(*titles)], batch_rows=8, num_workers=num_workers
    )
    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(batches)
    assert not [one for one in threading.enumerate() if one.name.startswith("load")]


def test_a_caller_who_has_had_enough_leaves_no_threads() -> None:
    batches = embed(
        Slow(), ((item, None) for item in items(*["a"] * 100)), batch_rows=8, num_workers=3
    )
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("load")]


def test_an_impossible_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_rows must be at least 1, got 0"):
        run(Lengths(), items("a"), batch_rows=0)
