"""The catalog's items and the store's latest rows in, side by side out: what is new, old or gone.

Both come ordered by id, so one pass over each is enough and nothing is held: a million items cost
no more memory than a hundred.
"""

from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

from embedders.items import Item

DELETED = "deleted"  # the content hash of a tombstone; a digest is never such a word


class Known(NamedTuple):
    """The latest row that the store holds of one id in one space."""

    content_hash: str
    """Of the content that the vector was made from; `DELETED` where the item was taken away."""
    event_timestamp: datetime
    """The moment from which the row is true, in UTC."""
    created: datetime
    """When the row was written, in UTC."""

    def is_current(self, content_hash: str, renew_before: datetime | None = None) -> bool:
        """Whether the row can stay: made from the same content, and not before that moment."""
        is_same = self.content_hash == content_hash
        return is_same and (renew_before is None or self.created >= renew_before)


T = TypeVar("T")


def joined(
    items: Iterable[Item], known: Iterable[tuple[str, T]]
) -> Generator[tuple[str, Item | None, T | None], None, None]:
    """Every id that either side has, in order, with what each has of it.

    Args:
        items: The catalog's, ordered by id (by code point), each once.
        known: The store's rows, such as `Known`, ordered likewise.

    Yields:
        (id, item, row): the item is None where only the store has the id, the row None where only
        the catalog does.

    Raises:
        ValueError: one of the sides is out of order, or repeats an id.
    """
    left = _ordered(((item.item_id, item) for item in items), "items")
    right = _ordered(known, "the store's rows")
    item, row = next(left, None), next(right, None)
    while item is not None or row is not None:
        if row is None or (item is not None and item[0] < row[0]):
            assert item is not None
            yield item[0], item[1], None
            item = next(left, None)
        elif item is None or row[0] < item[0]:
            yield row[0], None, row[1]
            row = next(right, None)
        else:
            yield item[0], item[1], row[1]
            item, row = next(left, None), next(right, None)


def _ordered(pairs: Iterable[tuple[str, T]], what: str) -> Iterator[tuple[str, T]]:
    last: str | None = None
    for pair in pairs:
        if last is not None and pair[0] <= last:
            raise ValueError(
                f"{what} must come ordered by id, each once: {pair[0]!r} came after {last!r}"
            )
        last = pair[0]
        yield pair
