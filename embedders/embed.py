"""An embedder and a stream of items in, batches of new vectors out, unchanged items skipped.

Each item comes with the row that the store has of it. Threads fingerprint and decode ahead while
one batch is encoded; together no more than two batches of contents are ever held. A batch says
all that the store needs: the vectors, from when they are true, and the digest by which the next
run knows what it can skip. Written at once, it is all that a killed run can lose.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality, Reject
from embedders.known import DELETED, Known
from embedders.vectors import Embeddings

CHUNK = 16  # items handed to a thread together: handing over costs more than a short text's digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of one run of items. Lists are parallel to `embeddings.item_ids`."""

    embeddings: Embeddings
    content_hashes: list[str]
    event_timestamps: list[datetime]
    """The moment from which each vector is true, in UTC."""
    imputed: list[bool]
    """Which vectors were inferred, as their items show no such content of their own."""
    rejects: list[Reject]
    num_unchanged: int
    """Items skipped since the batch before, as their content is known."""
    lost_ids: list[str]
    """Items whose vector is known although they show no such content any more."""


class _Fresh(NamedTuple):
    """An item that is to be encoded."""

    item: Item
    known: Known | None
    content_hash: str
    content: Any


class _Lost(NamedTuple):
    item_id: str


class _Unchanged(NamedTuple):
    item_id: str


_Look = _Fresh | Reject | _Lost | _Unchanged | None
"""What looking at an item shows; None where there is nothing to do."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    """What waits to be encoded."""

    fresh: list[_Fresh] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    lost_ids: list[str] = field(default_factory=list)
    num_unchanged: int = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.rejects) + len(self.lost_ids)

    def add(self, look: _Look) -> None:
        match look:
            case _Fresh():
                self.fresh.append(look)
            case Reject():
                self.rejects.append(look)
            case _Lost():
                self.lost_ids.append(look.item_id)
            case _Unchanged():
                self.num_unchanged += 1


def embed(
    embedder: Embedder,
    pairs: Iterable[tuple[Item, Known | None]],
    *,
    batch_rows: int | None = None,
    num_workers: int = 0,
    on_progress: Callable[[int], None] | None = None,
    now: datetime | None = None,
    renew_before: datetime | None = None,
) -> Iterator[Batch]:
    """Embed the items whose content is new, in their order.

    The batches are the same whatever the number of workers.

    Args:
        embedder: Says what each item's content is, and encodes it.
        pairs: Each item once, with the latest row that the store has of it in this space. Items
            without content of this kind are passed over.
        batch_rows: How many contents are encoded and given out together; None takes the
            embedder's own number.
        num_workers: Threads that fingerprint and load ahead; 0 and 1 do all in the caller's.
        on_progress: Called with the number of items that are dealt with: unchanged, or part of
            a batch that the caller has come back from.
        now: The time of reading, in UTC; None takes the clock's.
        renew_before: Rows written before it are embedded again though their content is the same.

    Yields:
        Batches; the last may hold nothing but rejects or a count of unchanged items.

    Raises:
        ValueError: an impossible batch size, a repeated item, or an encoder that does not give
            what its space promises. What a worker raises reaches the caller as it is.
    """
    batch_rows = embedder.rows_per_batch if batch_rows is None else batch_rows
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
    now = now or datetime.now(UTC)

    def look(pair: tuple[Item, Known | None]) -> _Look:
        return _look(embedder, *pair, renew_before)

    pending = _Pending()
    num_seen = 0
    for looks in _ahead(look, pairs, batch_rows=batch_rows, num_workers=num_workers):
        for one in looks:
            pending.add(one)
            num_seen += 1
            if len(pending) >= batch_rows:
                yield _encode(embedder, pending, now)
                pending = _Pending()
        if on_progress:
            on_progress(num_seen - len(pending))
    if len(pending) or pending.num_unchanged:
        yield _encode(embedder, pending, now)
        if on_progress and len(pending):
            on_progress(num_seen)


def _look(
    embedder: Embedder, item: Item, known: Known | None, renew_before: datetime | None
) -> _Look:
    is_held = known is not None and known.content_hash != DELETED
    try:
        content_hash = embedder.fingerprint(item)
        if content_hash is None:
            return _Lost(item.item_id) if is_held else None
        if known is not None and known.is_current(content_hash, renew_before):
            return _Unchanged(item.item_id)
        return _Fresh(item, known, content_hash, embedder.load(item))
    except BadContent as error:
        return embedder.reject(item.item_id, str(error))


def _ahead(
    look: Callable[[tuple[Item, Known | None]], _Look],
    pairs: Iterable[tuple[Item, Known | None]],
    *,
    batch_rows: int,
    num_workers: int,
) -> Iterator[list[_Look]]:
    """What the items show, in their order, at most one batch of them ahead of the caller."""
    size = max(1, min(CHUNK, batch_rows // max(1, num_workers)))
    left = iter(pairs)
    chunks = iter(lambda: list(islice(left, size)), [])

    def look_at(chunk: list[tuple[Item, Known | None]]) -> list[_Look]:
        return [look(pair) for pair in chunk]

    if num_workers <= 1:
        yield from map(look_at, chunks)
        return
    with ThreadPoolExecutor(num_workers, thread_name_prefix="load") as pool:
        waiting: deque[Future[list[_Look]]] = deque()
        try:
            for chunk in islice(chunks, batch_rows // size):
                waiting.append(pool.submit(look_at, chunk))
            while waiting:
                yield waiting.popleft().result()
                for chunk in islice(chunks, 1):
                    waiting.append(pool.submit(look_at, chunk))
        finally:  # after an error, or when the caller has had enough
            for future in waiting:
                future.cancel()


def _encode(embedder: Embedder, pending: _Pending, now: datetime) -> Batch:
    fresh = pending.fresh
    embeddings, unfit = embedder.embed_contents(
        [one.item.item_id for one in fresh], [one.content for one in fresh]
    )
    unfit_ids = {reject.key for reject in unfit}
    good = [one for one in fresh if one.item.item_id not in unfit_ids]
    return Batch(
        embeddings=embeddings,
        content_hashes=[one.content_hash for one in good],
        event_timestamps=[_true_from(embedder, one, now) for one in good],
        imputed=[embedder.is_imputed(one.item) for one in good],
        rejects=pending.rejects + unfit,
        num_unchanged=pending.num_unchanged,
        lost_ids=pending.lost_ids,
    )


def _true_from(embedder: Embedder, fresh: _Fresh, now: datetime) -> datetime:
    known = fresh.known
    if known is not None and known.content_hash == fresh.content_hash:
        return known.event_timestamp  # a repair: the same content, true since when it was
    if embedder.until and embedder.is_looked_up:
        stated = embedder.until
    elif embedder.until:  # weights that know the events before it read what is newer, too
        stated = max(embedder.until, fresh.item.content_time)
    elif embedder.space.modality is Modality.GRAPH:
        stated = now  # vectors of a graph without a cut know every event there is
    else:
        stated = fresh.item.content_time
    if known is None:
        return stated
    if known.content_hash != DELETED and stated > known.event_timestamp:
        return stated
    # It changed, or came back, without a later time in the catalog: some time before now. Where
    # the known row is true only in days to come, the later `created` decides.
    return max(now, known.event_timestamp)
