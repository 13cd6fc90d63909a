"""What the catalog lost is found in one pass, and a large loss needs the user's word."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders import catalog
from feature_repo.store import Store
from sommelier.embedding.gone import Gone, TooManyGone, gone


def read(folder: Path, ids: list[str]) -> catalog.Catalog:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{one},T\n" for one in ids))
    return catalog.read(folder)


def test_stored_items_that_the_catalog_lacks_are_gone_and_new_ones_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.write_profiles(read(tmp_path / "catalog", ["a", "b", "é", "日", "z"]).items())
    found = gone(read(tmp_path / "catalog", ["b", "new", "日"]), store)
    assert found == Gone(item_ids=["a", "z", "é"], num_stored=5)

    store.delete(found.item_ids, at=datetime.now(UTC))
    assert gone(read(tmp_path / "catalog", ["b", "new", "日"]), store).item_ids == []


def test_nothing_is_gone_from_an_empty_store(tmp_path: Path) -> None:
    found = gone(read(tmp_path / "catalog", ["a"]), Store(tmp_path / "store"))
    assert found == Gone(item_ids=[], num_stored=0)


@pytest.mark.parametrize(("num_gone", "num_stored"), [(19, 19), (20, 100), (0, 0), (0, 50)])
def test_a_few_items_or_a_small_share_may_go(num_gone: int, num_stored: int) -> None:
    few = Gone(item_ids=[f"{n}" for n in range(num_gone)], num_stored=num_stored)
    few.refuse_many(max_share=0.2)


@pytest.mark.parametrize(("num_gone", "num_stored"), [(20, 20), (21, 100)])
def test_a_large_share_may_not(num_gone: int, num_stored: int) -> None:
    many = Gone(item_ids=[f"{n}" for n in range(num_gone)], num_stored=num_stored)
    with pytest.raises(TooManyGone, match=r"the first are '0', '1', '2'; .*--allow-deletions"):
        many.refuse_many(max_share=0.2)
