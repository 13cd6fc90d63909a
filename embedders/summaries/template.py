"""The catalog's own words in, put in order by rules: what stands in where no model is at hand.

Nothing is understood here. An item's text is its title, category and attributes in a row, a
user's preference counts categories and names what came last. It is called `template` wherever it
goes, so that nobody takes it for a model's; it costs nothing, and what it is worth is measured
(`benchmarks/summaries.py`).

A preference really is recurrent: the next one is made of the new events and of the text before
it, whose counts are read back out of it. Each event counts once, whatever its weight: which
weights mean dislike, nobody says here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from embedders.items import Item
from embedders.summaries.frame import plain

NAME = "template"
REVISION = "1"
RULES = (
    "item: title, category, attributes; 300 characters a value, 900 in all. user: the 16 most "
    "frequent categories with counts, of 60 characters, and the latest 5 titles, of 80"
)
"""For the digest: what changes a text changes this, too."""

VALUE, ITEM = 300, 900  # characters: small text encoders read some 250 tokens
CATEGORIES, CATEGORY = 16, 60  # how many are kept, characters of each
TITLES, TITLE = 5, 80

LIKES, LATELY, AND = "The user's choices: ", "lately ", "; "
COUNTED = re.compile(r"(.+) x([0-9]{1,9})")  # no title is: it ends in a quotation mark
NOTHING = "none with a name"


def telling(item: Item, names: Sequence[str] | None) -> dict[str, str]:
    """An item's attributes that are read.

    Args:
        item: Any.
        names: Which, in this order; those that the item lacks are left out. None takes all, by
            name, whose value holds a letter and is no address or path.
    """
    if names is not None:
        return {name: item.attributes[name] for name in names if item.attributes.get(name)}
    return {name: value for name, value in sorted(item.attributes.items()) if _is_told(value)}


def item_summary(item: Item, attributes: Mapping[str, str]) -> str:
    """`Title: category. First: value; second: value.`; empty where the item has none of them.

    Args:
        item: Whose title and category are told.
        attributes: What is told besides, in this order.
    """
    title, category = plain(item.title, limit=VALUE), plain(item.category or "", limit=VALUE)
    lead = ": ".join(part for part in (title, category) if part)
    named = (
        (plain(name, limit=VALUE), plain(value, limit=VALUE)) for name, value in attributes.items()
    )
    rest = "; ".join(f"{name}: {value}" for name, value in named if value)
    sentences = ". ".join(part for part in (lead, rest) if part)
    return plain(f"{sentences.removesuffix('.')}." if sentences else "", limit=ITEM)


def preference(events: Iterable[tuple[str, str | None]], before: str | None) -> str:
    """What a user chose, counted: `The user's choices: Drama x3; War x1; lately "Ran"; "Heat"`.

    Args:
        events: Title and category of each, oldest first. Several categories stand with commas or
            bars between them, and each counts.
        before: What this function said of all events before these; None where there are none.

    Returns:
        The text of all events so far. Of equal counts the latest stands first. The least
        frequent categories are forgotten; one that comes back starts at 1.

    Raises:
        ValueError: `before` was not written here.
    """
    counts, titles = _read(before) if before is not None else (Counter[str](), [])
    for title, category in events:
        for one in re.split(r"[,|]", category or ""):
            if name := _bare(one, CATEGORY):
                counts[name] = counts.pop(name, 0) + 1  # the latest stands last
        if name := _bare(title, TITLE):
            titles.append(name)
    kept = sorted(reversed(counts), key=lambda name: -counts[name])[:CATEGORIES]
    told = [f"{name} x{counts[name]}" for name in kept]
    named = AND.join(f'"{title}"' for title in titles[-TITLES:])
    return LIKES + (AND.join(told + [LATELY + named] * bool(named)) or NOTHING)


def _read(before: str) -> tuple[Counter[str], list[str]]:
    """Counts out of a text, the category of the latest event last, and titles, the latest last."""
    if not before.startswith(LIKES):
        raise ValueError(f"not a preference of the template's: {before[:80]!r}")
    counted, titles = [], []
    for part in before.removeprefix(LIKES).split(AND):
        if found := COUNTED.fullmatch(part):
            counted.append((found[1], int(found[2])))
        elif part != NOTHING:
            titles.append(part.removeprefix(LATELY)[1:-1])
    return Counter(dict(reversed(counted))), titles


def _bare(text: str, limit: int) -> str:
    """Words without the sign that the text is taken apart by."""
    return plain(text, limit=limit).replace(";", ",")


def _is_told(value: str) -> bool:
    if not any(one.isalpha() for one in value):
        return False
    last = re.split(r"[/\\]", value)[-1]
    is_path = last != value and "." in last
    return any(map(str.isspace, value)) or not (is_path or "://" in value or "www." in value)
