"""The mapping from canonical fields to a catalog's columns."""

from pathlib import Path

import pytest

from embedders.columns import CatalogError, Columns, text_of

PATH = Path("items.csv")


def test_an_absent_optional_column_of_default_name_is_null() -> None:
    assert text_of("category", Columns(), {"title": "t"}, path=PATH) == "NULL::VARCHAR"


def test_an_absent_required_column_is_refused_with_the_columns_there_are() -> None:
    with pytest.raises(CatalogError, match="no column 'title' for title, only 'a', 'b'"):
        text_of("title", Columns(), {"a": "c0", "b": "c1"}, path=PATH)


def test_one_absent_column_of_several_named_ones_is_refused() -> None:
    columns = Columns(description=("plot", "text"))

    with pytest.raises(CatalogError, match="no column 'text' for description"):
        text_of("description", columns, {"plot": "c0"}, path=PATH)


def test_the_default_weight_takes_whichever_column_there_is() -> None:
    assert text_of("weight", Columns(), {"rating": "c3"}, path=PATH) == "nullif(coalesce(c3), '')"


@pytest.mark.parametrize("bad", [{"description": "plot"}, {"title": ("a",)}, {"title": ""}])
def test_a_mapping_of_the_wrong_kind_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"columns.{next(iter(bad))}: expected something like"):
        Columns(**bad)  # type: ignore[arg-type]
