"""An embedder and a stream of items in, batches of new vectors out, unchanged items skipped.

No more than one batch of contents is held at a time. A batch says all that the store needs: the
vectors, from when they are true, and the digest by which the next run knows what it can skip.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality, Reject
from embedders.vectors import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of one run of items. Lists are parallel to `embeddings.item_ids`."""

    embeddings: Embeddings
    content_hashes: list[str]
    event_timestamps: list[datetime]
    """The moment from which each vector is true, in UTC."""
    rejects: list[Reject]
    num_unchanged: int
    """Items skipped since the batch before, as their content is known."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    """What waits to be encoded."""

    items: list[Item] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    num_unchanged: int = 0

    def __len__(self) -> int:
        return len(self.items) + len(self.rejects)


def embed(
    embedder: Embedder,
    items: Iterable[Item],
    *,
    known: Mapping[str, str],
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> Iterator[Batch]:
    """Embed the items whose content is new, in their order.

    Args:
        embedder: Says what each item's content is, and encodes it.
        items: Each item once. Those without content of this kind are passed over.
        known: Item id -> content hash of the vectors that the store holds in this space.
        batch_size: How many contents are read and encoded together.
        on_progress: Called with the number of items seen so far, after every `batch_size` of
            them and at the end.
        now: The time of reading, in UTC; None takes the clock's.

    Yields:
        Batches; the last may hold nothing but rejects or a count of unchanged items.

    Raises:
        ValueError: an impossible batch size, a repeated item, or an encoder that does not give
            what its space promises.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    now = now or datetime.now(UTC)
    pending = _Pending()
    num_seen = 0
    for item in items:
        _add(pending, embedder, item, known)
        num_seen += 1
        if len(pending) >= batch_size:
            yield _encode(pending, embedder, known, now)
            pending = _Pending()
        if on_progress and num_seen % batch_size == 0:
            on_progress(num_seen)
    if len(pending) or pending.num_unchanged:
        yield _encode(pending, embedder, known, now)
    if on_progress and num_seen % batch_size:
        on_progress(num_seen)


def _add(pending: _Pending, embedder: Embedder, item: Item, known: Mapping[str, str]) -> None:
    try:
        content_hash = embedder.fingerprint(item)
        if content_hash is None:
            return
        if known.get(item.item_id) == content_hash:
            pending.num_unchanged += 1
            return
        content = embedder.load(item)
    except BadContent as error:
        pending.rejects.append(embedder.reject(item.item_id, str(error)))
        return
    pending.items.append(item)
    pending.contents.append(content)
    pending.hashes.append(content_hash)


def _encode(
    pending: _Pending, embedder: Embedder, known: Mapping[str, str], now: datetime
) -> Batch:
    item_ids = [item.item_id for item in pending.items]
    embeddings, unfit = embedder.embed_contents(item_ids, pending.contents)
    unfit_ids = {reject.key for reject in unfit}
    good = [n for n, item_id in enumerate(item_ids) if item_id not in unfit_ids]
    return Batch(
        embeddings=embeddings,
        content_hashes=[pending.hashes[n] for n in good],
        event_timestamps=[
            _true_from(embedder, pending.items[n], item_ids[n] in known, now) for n in good
        ],
        rejects=pending.rejects + unfit,
        num_unchanged=pending.num_unchanged,
    )


def _true_from(embedder: Embedder, item: Item, is_known: bool, now: datetime) -> datetime:
    if embedder.until:
        return embedder.until
    has_time = item.updated_at or item.created_at
    # Vectors of a graph without a cut know every event there is, and a known item whose content
    # changed without a new time in the catalog changed some time before now.
    if embedder.space.modality is Modality.GRAPH or (is_known and not has_time):
        return now
    return item.content_time
