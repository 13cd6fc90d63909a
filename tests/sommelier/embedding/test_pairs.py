"""What is sent to another process arrives as it was."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embedders.items import Item
from embedders.known import Known
from sommelier.embedding.pairs import SCHEMA, of_table, to_table

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
FULL = Item(
    item_id="café/1",
    title="Émile's box\nwith two lines",
    description="",
    category="boxes, red",
    created_at=NOW,
    updated_at=NOW + timedelta(microseconds=1),
    image_path=Path("/catalog/media/a b.png"),
    audio_path=Path("/catalog/media/a.wav"),
    attributes={"color": "red", "size": "", "färbe": "rot"},
    summary="A red box.",
)


def test_every_field_of_an_item_and_of_its_row_arrives_as_it_was() -> None:
    pairs = [(FULL, Known("abc", NOW, NOW)), (Item(item_id="b", title="B"), None)]
    assert of_table(to_table(pairs)) == pairs


def test_no_field_of_an_item_is_left_behind() -> None:
    assert {one.name for one in fields(Item)} == set(SCHEMA.names) - {"known"}
    assert set(Known._fields) == {one.name for one in SCHEMA.field("known").type}


def test_the_order_stays_and_nothing_is_a_table_too() -> None:
    pairs = [(Item(item_id=one, title=one), None) for one in "zaq"]
    assert [item.item_id for item, _ in of_table(to_table(pairs))] == ["z", "a", "q"]
    assert of_table(to_table([])) == []
