from dataclasses import replace

import pytest

from embedders.items import Item
from feature_repo import parts, profiles
from feature_repo.store import Store
from feature_repo.tables import profile_view


def catalog(num_items: int) -> list[Item]:
    return [Item(item_id=f"item-{n:05d}", title=f"Title {n}") for n in range(num_items)]


def test_more_items_than_a_batch_are_compared_one_by_one(store: Store) -> None:
    items = catalog(2 * profiles.ROWS_PER_BATCH + 7)
    assert store.write_profiles(items) == len(items)
    assert store.write_profiles(items) == 0
    items[5] = replace(items[5], title="Another")
    items.insert(0, Item(item_id="a newcomer", title="New"))
    assert store.write_profiles(items) == 2
    assert list(store.profile_ids()) == [item.item_id for item in items]
    assert store.profiles()["item-00005"].title == "Another"


def test_items_out_of_order_are_refused_and_leave_no_part(store: Store) -> None:
    with pytest.raises(ValueError, match=r"ordered by id.*'item-00000' came after 'item-00001'"):
        store.write_profiles(reversed(catalog(2)))
    assert [part.name for part in parts.list_parts(store.root, profile_view())] == [parts.EMPTY]


def test_items_that_are_not_given_keep_their_profiles(store: Store) -> None:
    store.write_profiles(catalog(3))
    assert store.write_profiles(catalog(1)) == 0
    assert len(store.profiles()) == 3
