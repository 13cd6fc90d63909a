"""An item in, the one text that stands for it out.

Title, category and description, in this order, each with its white space collapsed, those that
are empty left out, joined by a full stop and a space.
"""

import hashlib

from embedders.base import BadContent
from embedders.items import Item

RECIPE = "title, category, description joined by '. '"  # part of every text space


def item_text(item: Item) -> str:
    """The item's text; empty where the item has none."""
    parts = (item.title, item.category or "", item.description or "")
    return ". ".join(text for part in parts if (text := " ".join(part.split())))


def text_digest(item: Item) -> str | None:
    """The sha256 of the item's text, None where it has none.

    Raises:
        BadContent: the text holds half of a surrogate pair, so no encoding can write it.
    """
    text = item_text(item)
    try:
        return hashlib.sha256(text.encode()).hexdigest() if text else None
    except UnicodeEncodeError as error:
        raise BadContent(
            f"item {item.item_id!r}: its text is not valid Unicode at character {error.start}; "
            "read the catalog again in the encoding it was written in"
        ) from error
