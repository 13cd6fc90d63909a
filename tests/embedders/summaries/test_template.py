"""The catalog's words in order, and preferences that need nothing but their own text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders.items import Item
from embedders.summaries.frame import plain
from embedders.summaries.template import (
    CATEGORIES,
    ITEM,
    TITLES,
    item_summary,
    preference,
    telling,
)
from tests.embedders.summaries import hostile

HEAT = Item(
    item_id="6",
    title="Heat (1995)",
    category="Action, Crime",
    description="Bank robbers.",
    attributes={
        "director": "Michael Mann",
        "year": "1995",
        "link": "https://example.org/6",
        "poster": "media/6.jpg",
        "actors": "Al Pacino, Robert De Niro",
    },
)

NAMES = ["Drama", "Comedy", "lately War", "x x9", "a; b x2", '"c" x2', "A|B", ""]
events = st.lists(
    st.tuples(
        st.sampled_from(
            ["Heat", "Red; lately Blue x3", 'lately "Blue"', "", *hostile.ROLES.values()]
        ),
        st.sampled_from([None, *NAMES]),
    ),
    max_size=12,
)


def test_title_category_and_attributes_stand_in_a_row() -> None:
    assert item_summary(HEAT, telling(HEAT, None)) == (
        "Heat (1995): Action, Crime. actors: Al Pacino, Robert De Niro; director: Michael Mann."
    )


def test_named_attributes_are_read_in_their_order_numbers_too() -> None:
    assert telling(HEAT, ("year", "director", "price")) == {
        "year": "1995",
        "director": "Michael Mann",
    }
    assert telling(HEAT, ()) == {}


def test_an_item_of_a_title_alone_is_that_title() -> None:
    assert item_summary(Item(item_id="1", title="Red"), {}) == "Red."
    assert item_summary(Item(item_id="1", title=" "), {}) == ""


@pytest.mark.parametrize("title", hostile.TITLES.values(), ids=hostile.TITLES.keys())
def test_a_hostile_title_leaves_a_plain_bounded_text(title: str) -> None:
    item = Item(item_id="1", title=title, category=title, attributes={title: title})
    made = item_summary(item, item.attributes)
    assert made == plain(made)
    assert len(made) <= ITEM


def test_categories_are_counted_and_the_latest_titles_named() -> None:
    text = preference([("Heat", "Action, Crime"), ("Red", "Drama|Romance"), ("Ran", "Drama")], None)
    assert text == (
        "The user's choices: Drama x2; Romance x1; Crime x1; Action x1; "
        'lately "Heat"; "Red"; "Ran"'
    )


def test_the_next_preference_is_made_of_the_text_before_it() -> None:
    first = preference([("Heat", "Action"), ("Ran", "Drama")], None)
    second = preference([("Red", "Drama")], first)
    assert second == ('The user\'s choices: Drama x2; Action x1; lately "Heat"; "Ran"; "Red"')


@given(events, events)
def test_block_by_block_gives_what_all_at_once_gives(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    assert preference(new, preference(old, None)) == preference(old + new, None)


def test_the_least_frequent_are_forgotten_and_the_latest_titles_kept() -> None:
    often = [(f"t{n}", "Drama") for n in range(3)]
    many = [(f"u{n}", f"Kind {n}") for n in range(2 * CATEGORIES)]
    text = preference([*often, *many], None)
    assert len(re.findall(r" x\d+;", text)) == CATEGORIES
    assert "Drama x3" in text
    assert f"Kind {2 * CATEGORIES - 1} x1" in text
    assert "Kind 0 x" not in text
    assert text.count('"') == 2 * TITLES


def test_events_without_any_name_leave_a_text_that_can_be_continued() -> None:
    blank = preference([("", None)], None)
    assert blank == "The user's choices: none with a name"
    assert preference([("Red", "Drama")], blank) == 'The user\'s choices: Drama x1; lately "Red"'


def test_a_preference_that_a_model_wrote_is_refused() -> None:
    with pytest.raises(ValueError, match="not a preference of the template's: 'The user appears"):
        preference([("Red", "Drama")], "The user appears to like dramas.")
