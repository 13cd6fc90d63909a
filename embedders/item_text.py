"""An item in, the one text that stands for it out.

In a text space: title, category and description, in this order, joined by a full stop and a space,
those that are empty left out. In a summary space: what a model wrote of the item. White space is
collapsed in both.
"""

import hashlib
from collections.abc import Mapping

from embedders.base import BadContent
from embedders.items import Item, Modality

RECIPES: Mapping[Modality, str] = {
    Modality.SUMMARY: "the item's summary",
    Modality.TEXT: "title, category, description joined by '. '",
}
"""How the text of each modality comes to be; part of every space that is read off a text."""


def item_text(item: Item, modality: Modality = Modality.TEXT) -> str:
    """The item's text of a modality; empty where the item has none."""
    if modality is Modality.SUMMARY:
        return _collapsed(item.summary or "")
    parts = (item.title, item.category or "", item.description or "")
    return ". ".join(text for part in parts if (text := _collapsed(part)))


def text_digest(item: Item, modality: Modality = Modality.TEXT) -> str | None:
    """The sha256 of the item's text of a modality, None where it has none.

    Raises:
        BadContent: the text holds half of a surrogate pair, so no encoding can write it.
    """
    text = item_text(item, modality)
    try:
        return hashlib.sha256(text.encode()).hexdigest() if text else None
    except UnicodeEncodeError as error:
        raise BadContent(
            f"item {item.item_id!r}: its {modality} is not valid Unicode at character "
            f"{error.start}; read the catalog again in the encoding it was written in"
        ) from error


def _collapsed(text: str) -> str:
    return " ".join(text.split())
