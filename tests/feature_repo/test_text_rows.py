"""Texts in and out of the parts; what is served of them is in `test_texts_served.py`."""

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from embedders.items import EPOCH, Item
from embedders.known import DELETED
from embedders.texts import MAX_CHARACTERS, TextKind, Texts, TextSource
from feature_repo import parts, text_rows
from feature_repo.base import StoreError
from feature_repo.store import Store
from feature_repo.tables import text_view
from feature_repo.text_rows import WrittenText
from tests.feature_repo.texts import HOSTILE, PREFERENCE, SUMMARY, write_texts

DAY = timedelta(days=1)


def test_a_summary_is_read_as_it_was_written(store: Store) -> None:
    texts = Texts(source=SUMMARY, row_ids=["b", "a"], texts=["Two.", "One."], positions=[0, 0])
    written = store.write_texts(
        texts, content_hashes=["h2", "h1"], event_timestamps=[EPOCH, EPOCH + DAY]
    )
    assert written == 2
    assert store.text_sources() == {SUMMARY.source_id: SUMMARY}
    found = store.read_texts(SUMMARY)
    assert list(found) == ["a", "b"]
    assert found["a"] == WrittenText(
        text="One.", position=0, content_hash="h1", event_timestamp=EPOCH + DAY
    )
    assert list(store.read_texts(SUMMARY, as_of=EPOCH)) == ["b"]


def test_a_preference_keeps_how_far_it_has_read(store: Store) -> None:
    texts = Texts(
        source=PREFERENCE, row_ids=["u", "u"], texts=["Bread.", "Cheese."], positions=[3, 6]
    )
    store.write_texts(texts, content_hashes=["3", "6"], event_timestamps=[EPOCH, EPOCH + DAY])
    assert store.read_texts(PREFERENCE)["u"].position == 6
    before = store.read_texts(PREFERENCE, as_of=EPOCH + DAY - timedelta(microseconds=1))
    assert (before["u"].text, before["u"].position) == ("Bread.", 3)


def test_hostile_texts_come_back_as_they_were(store: Store) -> None:
    write_texts(store, SUMMARY, HOSTILE)
    assert {one: found.text for one, found in store.read_texts(SUMMARY).items()} == HOSTILE
    assert max(map(len, HOSTILE.values())) == MAX_CHARACTERS


def test_two_sources_never_meet(store: Store) -> None:
    other = TextSource(
        kind=TextKind.PREFERENCE, writer="toy", revision="1", prompt="in other words"
    )
    write_texts(store, PREFERENCE, {"u": "of one prompt"})
    write_texts(store, other, {"u": "of another"})
    assert {one: store.read_texts(one)["u"].text for one in (PREFERENCE, other)} == {
        PREFERENCE: "of one prompt",
        other: "of another",
    }
    assert len(store.text_sources()) == 2


def test_what_is_known_of_texts_includes_what_was_taken_away(store: Store) -> None:
    assert list(store.known_texts(SUMMARY)) == []
    write_texts(store, SUMMARY, {"a": "One.", "b": "Two."})
    store.delete(["b"], at=EPOCH + DAY)
    known = dict(store.known_texts(SUMMARY))
    assert known["a"].content_hash == "hash of One."
    assert (known["b"].content_hash, known["b"].event_timestamp) == (DELETED, EPOCH + DAY)


def test_a_deleted_items_summary_is_gone_from_its_moment_on(store: Store) -> None:
    write_texts(store, SUMMARY, {"a": "One.", "b": "Two."})
    write_texts(store, PREFERENCE, {"a": "a user of that name"})
    store.write_profiles([Item(item_id="a", title="Bread")])
    assert store.delete(["a"], at=EPOCH + DAY) == 1
    assert list(store.read_texts(SUMMARY)) == ["b"]
    assert list(store.read_texts(SUMMARY, as_of=EPOCH + DAY)) == ["b"]
    assert list(store.read_texts(SUMMARY, as_of=EPOCH)) == ["a", "b"]
    assert list(store.read_texts(PREFERENCE)) == ["a"], "what there is of users stays"
    write_texts(store, SUMMARY, {"a": "Back."}, at=EPOCH + 2 * DAY)
    assert store.read_texts(SUMMARY)["a"].text == "Back."


def test_one_sources_texts_are_taken_away_alone(store: Store) -> None:
    write_texts(store, PREFERENCE, {"u": "Bread.", "v": "Wine."})
    store.write_profiles([Item(item_id="u", title="an item of that name")])
    assert store.delete_texts(PREFERENCE, ["u", "nobody"], at=EPOCH + DAY) == 1
    assert list(store.read_texts(PREFERENCE)) == ["v"]
    assert set(store.profiles()) == {"u"}


def test_a_late_write_of_an_older_moment_does_not_replace_the_newer_text(store: Store) -> None:
    write_texts(store, PREFERENCE, {"u": "newer"}, at=EPOCH + DAY)
    write_texts(store, PREFERENCE, {"u": "older"}, at=EPOCH)
    assert store.read_texts(PREFERENCE)["u"].text == "newer"


def test_a_source_that_was_never_written_is_named_with_those_that_were(store: Store) -> None:
    write_texts(store, SUMMARY, {"a": "One."})
    with pytest.raises(StoreError, match=rf"no texts of {PREFERENCE.source_id}, only of: nothing"):
        store.stream_texts(PREFERENCE)
    other = TextSource(kind=TextKind.SUMMARY, writer="toy", revision="2", prompt="p")
    with pytest.raises(StoreError, match=rf"only of: {SUMMARY.source_id}; write them first"):
        store.read_texts(other)


@pytest.mark.parametrize(
    ("hashes", "moments", "fault"),
    [
        (["x"], [EPOCH, EPOCH], "2 texts came with 1 content hashes and 2 event"),
        (["x", "y"], [EPOCH, datetime(2020, 1, 1)], "no time zone"),
        (["x", DELETED], [EPOCH, EPOCH + DAY], "is no content hash"),
        (["x", "y"], [EPOCH, EPOCH], "two texts of 'u' are for 1970-01-01"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    store: Store, hashes: list[str], moments: list[datetime], fault: str
) -> None:
    texts = Texts(source=PREFERENCE, row_ids=["u", "u"], texts=["a", "b"], positions=[3, 6])
    with pytest.raises(StoreError, match=fault):
        store.write_texts(texts, content_hashes=hashes, event_timestamps=moments)
    assert store.text_sources() == {}


def test_many_texts_are_one_part_and_streamed_without_being_held(store: Store) -> None:
    num_texts = 40_000
    write_texts(store, SUMMARY, {f"item-{n:05d}": f"Text {n}. " * 40 for n in range(num_texts)})
    assert len(parts.list_parts(store.root, text_view(SUMMARY))) == 2, "and the empty one"
    tracemalloc.start()
    try:
        ids = [one for one, _ in store.stream_texts(SUMMARY)]
        streamed = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        held = store.read_texts(SUMMARY)
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ids == list(held) == [f"item-{n:05d}" for n in range(num_texts)]
    assert held["item-00007"].text == "Text 7. " * 40
    assert streamed < whole / 2


def test_when_a_source_was_last_written_to_is_known(store: Store) -> None:
    assert text_rows.last_written(store.root, SUMMARY) == EPOCH
    before = datetime.now(UTC)
    write_texts(store, SUMMARY, {"a": "One."}, at=EPOCH + DAY)
    assert before <= text_rows.last_written(store.root, SUMMARY) <= datetime.now(UTC)
