"""Conditions as people write them, and what a filter refuses."""

import pytest

from retrieval.filters import (
    MAX_CONDITIONS,
    MAX_IDS,
    MAX_LENGTH,
    MAX_VALUES,
    Among,
    Between,
    Filter,
)


def test_conditions_are_read_as_people_write_them() -> None:
    parsed = Filter.parse(
        ["category = Games | Puzzles", "price<=20", "available=true"], allow=["a"], deny=["b"]
    )
    assert parsed == Filter(
        among=(
            Among(column="category", values=frozenset({"Games", "Puzzles"})),
            Among(column="available", values=frozenset({"true"})),
        ),
        between=(Between(column="price", high=20.0),),
        allow=frozenset({"a"}),
        deny=frozenset({"b"}),
    )
    assert parsed.columns == ("available", "category", "price")


def test_bounds_of_one_column_become_the_narrowest_interval() -> None:
    parsed = Filter.parse(["price>=5", "price<=20", "price <= 1.5e1", "price>=-2"])
    assert parsed.between == (Between(column="price", low=5, high=15),)


def test_the_first_operator_divides_name_and_value() -> None:
    parsed = Filter.parse(["formula=a<=b", "title=x=y"])
    assert [(one.column, *one.values) for one in parsed.among] == [
        ("formula", "a<=b"),
        ("title", "x=y"),
    ]


def test_a_filter_without_conditions_is_empty_and_one_that_allows_nothing_is_not() -> None:
    assert Filter.parse([]).is_empty
    assert not Filter.parse([], allow=[]).is_empty
    assert not Filter.parse([], deny=["a"]).is_empty
    assert not Filter.parse(["price>=1"]).is_empty


@pytest.mark.parametrize("text", ["", "category", "=Games", "price<20", "price>20", "price!=2"])
def test_a_condition_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood; write 'column=value'"):
        Filter.parse([text])


@pytest.mark.parametrize("value", ["cheap", "", "nan", "inf", "1_000", "1,5"])
def test_a_bound_that_is_no_finite_number_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"'price<=.*which is no finite number"):
        Filter.parse([f"price<={value}"])


@pytest.mark.parametrize("text", ["category=", "category= | |"])
def test_an_empty_set_of_values_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'category' names no value"):
        Filter.parse([text])


def test_an_interval_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 20.0 and at most 5.0: no item could match"):
        Filter.parse(["price<=5", "price>=20"])
    with pytest.raises(ValueError, match="needs a finite low or high end"):
        Between(column="price")
    with pytest.raises(ValueError, match="needs a finite low or high end"):
        Between(column="price", low=float("nan"))


def test_a_filter_is_bounded() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_CONDITIONS} conditions, got 33"):
        Filter.parse(["price>=1"] * 33)
    with pytest.raises(ValueError, match=f"at most {MAX_VALUES} values, got 1001"):
        Filter.parse(["category=" + "|".join(map(str, range(MAX_VALUES + 1)))])
    with pytest.raises(ValueError, match=f"at most {MAX_IDS} item ids, got 100001"):
        Filter.parse([], allow=map(str, range(MAX_IDS)), deny=["x"])
    for bad in (["c=" + "x" * (MAX_LENGTH + 1)], ["c" * (MAX_LENGTH + 1) + "=x"]):
        with pytest.raises(ValueError, match=f"at most {MAX_LENGTH} characters"):
            Filter.parse(bad)


def test_equal_filters_are_one_key() -> None:
    first = Filter.parse(["category=A|B"], deny=["x", "y"])
    assert {first: 1}[Filter.parse(["category=B|A"], deny=["y", "x"])] == 1
