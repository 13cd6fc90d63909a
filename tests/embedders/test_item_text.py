"""An item's text is joined in one stated way."""

from dataclasses import replace

import pytest

from embedders.base import BadContent
from embedders.item_text import item_text, text_digest
from embedders.items import Item, Modality


def test_title_category_and_description_are_joined_in_this_order() -> None:
    item = Item(item_id="1", title="Chablis", category="wine", description="Dry.\n  From  chalk")
    assert item_text(item) == "Chablis. wine. Dry. From chalk"


def test_empty_parts_leave_no_trace() -> None:
    assert item_text(Item(item_id="1", title=" ", category="", description="Dry")) == "Dry"


def test_an_item_without_text_has_no_digest() -> None:
    assert text_digest(Item(item_id="1", title="\t")) is None


def test_white_space_does_not_change_the_digest_but_a_word_does() -> None:
    digest = text_digest(Item(item_id="1", title="red wine"))
    assert digest == text_digest(Item(item_id="2", title="  red\nwine "))
    assert digest != text_digest(Item(item_id="1", title="red wines"))


def test_half_a_surrogate_pair_is_bad_content() -> None:
    with pytest.raises(BadContent, match=r"'7'.*not valid Unicode at character 4"):
        text_digest(Item(item_id="7", title="wine\ud83c"))


def test_a_summary_space_reads_the_summary_alone() -> None:
    item = Item(item_id="1", title="Chablis", description="Dry", summary=" Chalk,\n and citrus ")
    assert item_text(item, Modality.SUMMARY) == "Chalk, and citrus"
    same_words = Item(item_id="2", title="Chalk, and citrus")
    assert text_digest(item, Modality.SUMMARY) == text_digest(same_words)


def test_a_summary_says_nothing_in_a_text_space_and_nothing_stands_in_for_it() -> None:
    plain = Item(item_id="1", title="Chablis")
    assert text_digest(plain) == text_digest(replace(plain, summary="Chalk"))
    assert item_text(plain, Modality.SUMMARY) == ""
    assert text_digest(plain, Modality.SUMMARY) is None
