"""The names of a catalog's columns in, the text of each canonical field (as SQL) out.

Knows no database: settings can hold a `Columns` without loading one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path


class CatalogError(ValueError):
    """A catalog that cannot be read at all; the message says what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of the files hold what.

    A column named here must exist, whereas a default one may be absent where it is optional.
    """

    item_id: str = "item_id"
    """In every file, as in brought vectors."""
    title: str = "title"
    description: tuple[str, ...] = ("description",)
    """All that are not empty, joined by a line break."""
    category: tuple[str, ...] = ("category",)
    """All that are not empty, joined by ", ", as the values of a list are."""
    created_at: str = "created_at"
    updated_at: str = "updated_at"
    image_path: str = "image_path"
    audio_path: str = "audio_path"
    user_id: str = "user_id"
    """Of events and of friends."""
    friend_id: str = "friend_id"
    other_item_id: str = "other_item_id"
    behavior: str = "behavior"
    weight: tuple[str, ...] = ("weight", "rating")
    """The first that is not empty."""
    timestamp: str = "timestamp"
    position: str = "position"
    split: str = "split"

    def __post_init__(self) -> None:
        for each in fields(self):
            seen = getattr(self, each.name)
            if type(seen) is not type(each.default) or not seen:
                raise ValueError(
                    f"columns.{each.name}: expected something like {each.default!r}, got {seen!r}"
                )

    def names(self, canonical: str) -> tuple[str, ...]:
        """The columns that make up one field."""
        named = getattr(self, canonical)
        return named if isinstance(named, tuple) else (named,)


ITEM_FIELDS = (
    "item_id",
    "title",
    "description",
    "category",
    "created_at",
    "updated_at",
    "image_path",
    "audio_path",
)
EVENT_FIELDS = ("user_id", "item_id", "behavior", "weight", "timestamp", "position", "split")
REQUIRED = frozenset({"item_id", "title", "user_id", "behavior", "friend_id", "other_item_id"})
JOINS = {
    "description": "concat_ws(E'\\n', {})",
    "category": "concat_ws(', ', {})",
    "weight": "coalesce({})",
}


def text_of(canonical: str, columns: Columns, texts: Mapping[str, str], *, path: Path) -> str:
    """The SQL text of one canonical field; NULL where it is optional and absent.

    Args:
        canonical: One of the fields of `Columns`.
        columns: Where the file's fields are.
        texts: Column name -> SQL expression, for each column that the file has.
        path: The file, for the message.

    Raises:
        CatalogError: the column is required, or was named by the user, and is absent.
    """
    names = columns.names(canonical)
    is_needed = canonical in REQUIRED or names != Columns().names(canonical)
    absent = [name for name in names if name not in texts]
    if absent and is_needed:
        raise CatalogError(
            f"{path} has no column {absent[0]!r} for {canonical}, only "
            f"{', '.join(map(repr, texts))}: rename one, or map {canonical} to another column"
        )
    present = [texts[name] for name in names if name in texts]
    if not present:
        return "NULL::VARCHAR"
    return f"nullif({JOINS.get(canonical, '{}').replace('{}', ', '.join(present))}, '')"
