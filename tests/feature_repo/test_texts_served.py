"""Texts online and as of a moment: one contract, on SQLite, Redis and PostgreSQL."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from embedders.items import EPOCH
from feature_repo import compaction
from feature_repo.base import Entity, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from tests.feature_repo.texts import HOSTILE, PREFERENCE, SUMMARY, write_texts

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
OTHER = replace(PREFERENCE, prompt="in other words")


class Contract:
    """What every online store has to do; whoever inherits gives it an empty one as `empty`."""

    def test_hostile_texts_are_served_as_they_were_written(self, empty: Store) -> None:
        write_texts(empty, SUMMARY, HOSTILE)
        empty.apply()
        counts = empty.materialize(EPOCH)
        assert counts[f"item_{SUMMARY.source_id}"] == len(HOSTILE)
        ids = ["nobody", *HOSTILE, *HOSTILE]
        found = OnlineReader(empty).texts(SUMMARY, ids)
        assert found == [None, *HOSTILE.values(), *HOSTILE.values()]
        now = [(one, EPOCH) for one in HOSTILE]
        assert empty.texts_as_of(SUMMARY, now) == list(HOSTILE.values())

    def test_two_sources_of_one_user_do_not_meet(self, empty: Store) -> None:
        write_texts(empty, PREFERENCE, {"u": "of one prompt"})
        write_texts(empty, OTHER, {"u": "of another", "v": "only there"}, position=0)
        empty.apply()
        empty.materialize(EPOCH)
        reader = OnlineReader(empty)
        assert reader.texts(PREFERENCE, ["u", "v"]) == ["of one prompt", None]
        assert reader.texts(OTHER, ["u", "v"]) == ["of another", "only there"]
        assert empty.texts_as_of(PREFERENCE, [("u", EPOCH), ("v", EPOCH)]) == [
            "of one prompt",
            None,
        ]

    def test_texts_are_those_of_each_moment(self, empty: Store) -> None:
        write_texts(empty, SUMMARY, {"a": "first", "b": "other"}, at=EPOCH + DAY)
        write_texts(empty, SUMMARY, {"a": "third"}, at=EPOCH + 3 * DAY)
        write_texts(empty, SUMMARY, {"a": "late"}, at=EPOCH + 2 * DAY)
        empty.delete(["b"], at=EPOCH + 2 * DAY)
        empty.apply()
        expected = [
            ("a", EPOCH + DAY - TICK, None),
            ("a", EPOCH + DAY, "first"),
            ("a", EPOCH + 2 * DAY - TICK, "first"),
            ("a", EPOCH + 2 * DAY, "late"),
            ("a", EPOCH + 9 * DAY, "third"),
            ("b", EPOCH + 2 * DAY - TICK, "other"),
            ("b", EPOCH + 2 * DAY, None),
            ("nobody", EPOCH + DAY, None),
            ("a", EPOCH + DAY, "first"),
        ]
        pairs: list[tuple[str, datetime]] = [(one, moment) for one, moment, _ in expected]
        assert empty.texts_as_of(SUMMARY, pairs) == [text for _, _, text in expected]

    def test_what_is_online_never_gets_older_and_goes_when_its_item_does(
        self, empty: Store
    ) -> None:
        write_texts(empty, SUMMARY, {"a": "newer", "b": "stays"}, at=EPOCH + DAY)
        empty.apply()
        empty.materialize(EPOCH + DAY)
        write_texts(empty, SUMMARY, {"a": "older"}, at=EPOCH)
        empty.materialize(EPOCH + DAY)
        reader = OnlineReader(empty)
        assert reader.texts(SUMMARY, ["a", "b"]) == ["newer", "stays"]
        empty.delete(["a"], at=EPOCH + 2 * DAY)
        empty.materialize(EPOCH + 2 * DAY)
        reader.clear()
        assert reader.texts(SUMMARY, ["a", "b"]) == [None, "stays"]


class TestOnSqlite(Contract):
    @pytest.fixture
    def empty(self, store: Store, imported_feast: None) -> Store:
        return store


class TestOnServers(Contract):
    @pytest.fixture
    def empty(self, production: Store) -> Store:
        return production


@pytest.fixture
def both(store: Store, imported_feast: None) -> Store:
    """An item's summary and a user's preference, online."""
    write_texts(store, SUMMARY, {"a": "One."})
    write_texts(store, PREFERENCE, {"u": "Bread."})
    store.apply()
    store.materialize(EPOCH)
    return store


def change(store: Store) -> None:
    """Others online in the place of what was, and of what was not."""
    write_texts(store, SUMMARY, {"a": "Two.", "b": "New."}, at=EPOCH + DAY)
    write_texts(store, PREFERENCE, {"u": "Cheese.", "v": "Wine."}, at=EPOCH + DAY)
    store.materialize(EPOCH + DAY)


def seen(reader: OnlineReader) -> list[str | None]:
    return [*reader.texts(SUMMARY, ["a", "b"]), *reader.texts(PREFERENCE, ["u", "v"])]


BEFORE, AFTER = ["One.", None, "Bread.", None], ["Two.", "New.", "Cheese.", "Wine."]


def test_summaries_and_their_absence_stay_until_another_generation_and_preferences_age(
    both: Store,
) -> None:
    patient, hasty = OnlineReader(both, history_age_s=3600), OnlineReader(both, history_age_s=0)
    assert seen(patient) == seen(hasty) == BEFORE
    change(both)
    assert seen(patient) == BEFORE
    assert seen(hasty) == [*BEFORE[:2], *AFTER[2:]]
    assert patient.refresh("g-2")
    assert seen(patient) == AFTER


def test_forgetting_an_item_or_a_user_reads_their_texts_again(both: Store) -> None:
    reader = OnlineReader(both, history_age_s=3600)
    assert seen(reader) == BEFORE
    change(both)
    reader.forget(["a"])
    assert seen(reader) == ["Two.", None, "Bread.", None]
    reader.forget(["v", "a"], entity=Entity.USER)
    assert seen(reader) == ["Two.", None, "Bread.", "Wine."]


def test_a_cache_of_texts_is_bounded(store: Store, imported_feast: None) -> None:
    many = {f"item-{n}": "word " * 200 for n in range(200)}
    write_texts(store, SUMMARY, many)
    store.apply()
    store.materialize(EPOCH)
    reader = OnlineReader(store, cached_bytes=1_000_000)
    for _ in range(2):
        assert reader.texts(SUMMARY, list(many)) == list(many.values())
    assert 20_000 < reader.num_bytes <= 50_000, "the share of what is shown of items"


def test_compaction_keeps_every_answer(both: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SETTLE_S", 0.0)
    change(both)
    both.delete(["b"], at=EPOCH + 2 * DAY)
    both.materialize(EPOCH + 2 * DAY)
    pairs = [(one, EPOCH + n * DAY) for one in "abuv" for n in range(4)]

    def answers() -> list[object]:
        asked = [both.texts_as_of(one, pairs) for one in (SUMMARY, PREFERENCE)]
        return [*asked, both.read_texts(PREFERENCE), seen(OnlineReader(both))]

    before = answers()
    done = {one.view: (one.parts_before, one.parts_after) for one in both.compact()}
    assert done[f"item_{SUMMARY.source_id}"] == (3, 1)
    assert answers() == before
    assert set(both.materialize(EPOCH + 2 * DAY).values()) == {0}, "a merged part is not new"
    both.compact(keep=DAY, now=EPOCH + 2 * DAY)
    assert seen(OnlineReader(both)) == before[-1]
    assert both.texts_as_of(PREFERENCE, [("u", EPOCH + DAY)]) == ["Cheese."]


def test_a_source_that_was_not_applied_is_named(both: Store) -> None:
    for ask in (
        lambda: both.texts_as_of(OTHER, [("u", EPOCH)]),
        lambda: OnlineReader(both).texts(OTHER, ["u"]),
    ):
        with pytest.raises(StoreError, match=rf"user_{OTHER.source_id} is not defined; apply"):
            ask()
