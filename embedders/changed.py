"""A catalog's items with the store's rows in, how many of the known contents changed out.

Brought vectors keep their space when their file is replaced, so that a file can grow night by
night. That a file was made by another encoder under the old name shows only in its rows: then
most of them differ, and old and new vectors must not meet in one space.
"""

from collections.abc import Iterable

from embedders.base import BadContent, Embedder
from embedders.items import Item
from embedders.known import DELETED, Known

CHANGED_SHARE = 0.5
LEAST_KNOWN = 20  # of fewer rows, most may well have changed


def changed_share(
    embedder: Embedder, pairs: Iterable[tuple[Item, Known | None]]
) -> tuple[int, int]:
    """Compare contents with the rows that the store has of them.

    Args:
        embedder: Whose fingerprints; reading them must be cheap, as it is of brought vectors.
        pairs: Each item once, with the latest row that the store has of it; taken as a stream.

    Returns:
        How many of the known contents differ now, and how many are known. An item counts as known
        where the store has its vector and the embedder still has its content, in good state.
    """
    num_changed = num_known = 0
    for item, known in pairs:
        if known is None or known.content_hash == DELETED:
            continue
        try:
            content_hash = embedder.fingerprint(item)
        except BadContent:
            continue
        if content_hash is not None:
            num_known += 1
            num_changed += content_hash != known.content_hash
    return num_changed, num_known


def looks_like_another_encoder(num_changed: int, num_known: int) -> bool:
    """Whether so many known contents changed that another encoder must have made them."""
    return num_known >= LEAST_KNOWN and num_changed > CHANGED_SHARE * num_known
