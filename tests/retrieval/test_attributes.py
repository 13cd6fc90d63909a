"""What a filter allows, in a small catalog."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import Item
from feature_repo.base import Profile
from retrieval import attributes as module
from retrieval.attributes import Attributes, check
from retrieval.base import UnusableIndex
from retrieval.filters import Among, Filter


def item(item_id: str, category: str | None = None, **attributes: str) -> Item:
    return Item(item_id=item_id, title=item_id, category=category, attributes=attributes)


ITEMS = [
    item("a", "Games", price="5", available="True"),
    item("b", "Puzzles", price="20.0", available="false"),
    item("c", "Games", price="unknown", available="TRUE"),
    item("d", None, price="1e2"),
    item("e", "games"),
]
HELD = Attributes.of(ITEMS)


def allowed(*conditions: str, **ids: list[str]) -> str:
    mask = HELD.allowed(Filter.parse(conditions, **ids))
    return "".join(np.array(HELD.item_ids)[mask])


def test_all_conditions_must_hold_and_texts_compare_letter_by_letter() -> None:
    assert allowed("category=Games") == "ac"
    assert allowed("category=Games|Puzzles") == "abc"
    assert allowed("category=Games", "available=true", "price<=10") == "a"
    assert allowed("category=Games", "category=Puzzles") == ""


def test_bounds_are_numbers_and_belong_to_the_interval() -> None:
    assert allowed("price<=20") == "ab"
    assert allowed("price>=20") == "bd"
    assert allowed("price>=6", "price<=19") == ""


def test_an_item_without_a_value_matches_no_condition_on_it() -> None:
    assert allowed("price>=-1000000") == "abd"
    assert allowed("available=true|false") == "abc"
    assert allowed("category=none") == ""


def test_truth_values_have_no_case() -> None:
    assert allowed("available=true") == allowed("available=True") == "ac"


def test_named_items_are_allowed_or_denied_and_unknown_ones_do_no_harm() -> None:
    assert allowed(allow=["a", "d", "unheard"]) == "ad"
    assert allowed(deny=["a", "d", "unheard"]) == "bce"
    assert allowed(allow=["a", "b"], deny=["a"]) == "b"
    assert allowed("category=Games", allow=[]) == ""
    assert allowed() == "abcde"


def test_an_unknown_column_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="no attribute 'color' to filter by; there are: available, category, price"
    ):
        allowed("color=red")
    with pytest.raises(ValueError, match="there are: none; name them"):
        Attributes.of(ITEMS, columns=[]).allowed(Filter.parse(["category=Games"]))


def test_numbers_are_not_sought_among_texts() -> None:
    with pytest.raises(ValueError, match=r"'category' holds no number .* numbers are: price"):
        allowed("category>=3")


def test_items_asked_for_in_another_order_are_answered_in_theirs() -> None:
    wanted = ["e", "unheard", "c", "a"]
    mask = HELD.allowed(Filter.parse(["category=Games"]), wanted)
    assert mask.tolist() == [False, False, True, True]
    again = HELD.allowed(Filter.parse(["price<=10"]), wanted)
    assert again.tolist() == [False, False, False, True]
    assert HELD.aligned(wanted) is HELD.aligned(list(wanted))


def test_a_mask_is_made_once_and_cannot_be_written_to() -> None:
    mask = HELD.allowed(Filter.parse(["category=Games|Puzzles"]))
    assert HELD.allowed(Filter.parse(["category=Puzzles|Games"])) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_few_masks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MASKS", 2)
    held = Attributes.of(ITEMS)
    filters = [Filter.parse([f"category={name}"]) for name in ("Games", "Puzzles", "games")]
    first, second, _ = (held.allowed(one) for one in filters)
    assert held.allowed(filters[1]) is second
    assert held.allowed(filters[0]) is not first


def test_profiles_and_tables_give_the_same_columns() -> None:
    profiles = [
        Profile(item_id=one.item_id, title="", category=one.category, attributes=one.attributes)
        for one in ITEMS
    ]
    table = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "price": [5.0, None, 7.5],
            "available": [True, False, None],
            "nothing": pa.nulls(3),
        }
    )
    assert Attributes.of(profiles).columns == HELD.columns
    held = Attributes.of(table)
    assert held.columns == ("available", "price")
    assert held.allowed(Filter.parse(["price>=5", "available=true"])).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="needs 'item_id'"):
        Attributes.of(table.drop_columns("item_id"))


def test_only_the_columns_asked_for_are_kept_and_none_that_is_empty() -> None:
    held = Attributes.of(ITEMS, columns=("category", "price", "color"))
    assert (held.columns, held.numeric_columns) == (("category", "price"), ("price",))


def test_a_column_known_to_one_part_of_a_catalog_is_known() -> None:
    further = Attributes.of([item("f", color="red")])
    on_color = Filter.parse(["color=red"])
    check(on_color, HELD, further)
    assert HELD.mask(on_color).tolist() == [False] * 5
    assert further.mask(on_color).tolist() == [True]


def test_an_item_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Attributes.of([*ITEMS, ITEMS[0]])


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    HELD.save(tmp_path / "new" / "attributes.parquet")
    loaded = Attributes.load(tmp_path / "new" / "attributes.parquet")
    assert (loaded.item_ids, loaded.columns) == (HELD.item_ids, HELD.columns)
    for conditions in (["category=Games"], ["price<=20"], ["available=true"]):
        one = Filter.parse(conditions)
        assert loaded.allowed(one).tolist() == HELD.allowed(one).tolist()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["attributes.parquet"]


def test_no_attributes_survive_being_saved(tmp_path: Path) -> None:
    Attributes.of([]).save(tmp_path / "none.parquet")
    loaded = Attributes.load(tmp_path / "none.parquet")
    assert (len(loaded), loaded.columns) == (0, ())
    assert loaded.allowed(Filter(deny=frozenset({"x"})), ["x", "y"]).tolist() == [False, True]


def test_a_missing_or_damaged_file_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "attributes.parquet"
    with pytest.raises(UnusableIndex, match="is missing: run `sommelier index`"):
        Attributes.load(path)
    HELD.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnusableIndex, match=r"is damaged .*run `sommelier index`"):
        Attributes.load(path)


def test_a_hundred_thousand_items_are_masked_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    prices = random.normal(size=100_000).round(2)
    kinds = random.integers(0, 9, 100_000)
    ids = [str(row) for row in range(100_000)]
    held = Attributes.of(pa.table({"item_id": ids, "price": prices, "kind": kinds}))
    seen = held.allowed(
        Filter(
            among=(Among(column="kind", values=frozenset("13")),),
            between=Filter.parse(["price>=-0.5", "price<=0.75"]).between,
        )
    )
    expected = np.isin(kinds, (1, 3)) & (prices >= -0.5) & (prices <= 0.75)
    assert np.array_equal(seen, expected)
