"""The catalog's nouns."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from embedders.items import EPOCH, Item, Modality

CREATED = datetime(2020, 1, 1, tzinfo=UTC)
UPDATED = datetime(2021, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("created_at", "updated_at", "expected"),
    [
        (CREATED, UPDATED, UPDATED),
        (CREATED, None, CREATED),
        (None, UPDATED, UPDATED),
        (None, None, EPOCH),
    ],
)
def test_content_is_true_from_its_last_stated_time_and_else_from_the_epoch(
    created_at: datetime | None, updated_at: datetime | None, expected: datetime
) -> None:
    item = Item(item_id="a", title="A", created_at=created_at, updated_at=updated_at)

    assert item.content_time == expected


def test_modalities_sort_by_name_and_read_as_their_name() -> None:
    names = ["audio", "graph", "image", "summary", "text"]
    assert [str(one) for one in sorted(Modality)] == names == list(Modality)
    assert f"{Modality.AUDIO}" == "audio"


def test_an_item_does_not_change() -> None:
    item = Item(item_id="a", title="A")

    with pytest.raises(FrozenInstanceError):
        item.title = "B"  # type: ignore[misc]
