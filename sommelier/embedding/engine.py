"""An encoder and the catalog's items in, batches that are durable in the store out: the contract.

Where the encoding runs is an engine's own matter: in this process (`engine_local`), or on many
machines (`engine_ray`). All of them write the same rows. A job is plain data, so that it can
travel; the items come as a stream, each with the row that the store has of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedders import registry
from embedders.base import Embedder
from embedders.embed import Batch
from embedders.items import Item, Modality, Reject
from embedders.known import Known
from embedders.registry import EncoderConfig
from embedders.vectors import Space
from feature_repo.store import Store

OnProgress = Callable[[int], None]
"""Called with the number of items that are dealt with so far; it never goes down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingJob:
    """All that a process needs to embed items in one space. Plain data: it can be pickled."""

    encoder: EncoderConfig
    space: Space
    """The vectors' space, as the embedder of whoever ordered the job has it."""
    folder: Path
    """The catalog's."""
    brought: Mapping[tuple[Modality, str], Path]
    """The catalog's files of vectors: (modality, encoder's name) -> file."""
    store_root: Path
    store_profile: Path | None = None
    store_parts_url: str | None = None
    batch_rows: int | None = None
    """Rows that are encoded, and become durable, together; None leaves it to the embedder."""
    now: datetime
    """The moment from which changed content without a later time of its own is true."""
    renew_before: datetime | None = None
    """Rows written before it are embedded again though their content is the same: a repair."""

    def make_embedder(self) -> Embedder:
        """The job's embedder, its model loaded, for a process that has none yet.

        Raises:
            ValueError: it speaks another space than the job: other weights or preparation.
            ImportError: a library is missing here.
        """
        embedder = registry.create(self.encoder, catalog=self)
        if embedder.space != self.space:
            raise ValueError(
                f"the job is about {self.space}, but the same settings give {embedder.space} on "
                "this machine: install the same weights and versions everywhere"
            )
        return embedder

    def store(self) -> Store:
        """Where the rows go."""
        return Store(self.store_root, profile=self.store_profile, parts_url=self.store_parts_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of some items. All vectors that it counts are in the store already."""

    num_embedded: int
    num_unchanged: int
    """Items whose row is the one that would be written again."""
    rejects: tuple[Reject, ...] = ()
    lost_ids: tuple[str, ...] = ()
    """Items whose vector the store holds though they show no such content any more."""


class Engine(ABC):
    """Runs the embedding of one encoder over a catalog."""

    @abstractmethod
    def run(
        self,
        job: EmbeddingJob,
        embedder: Embedder,
        pairs: Iterable[tuple[Item, Known | None]],
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Outcome]:
        """Embed what is new, write it, and say so batch by batch.

        Args:
            job: What is to be done. Other processes make their embedder from it.
            embedder: The job's embedder in this process, for an engine that works here, and for
                fingerprints that cost nothing (`Embedder.reads_media` is false).
            pairs: Each item once, ordered by id, with the store's latest row of it. Taken as a
                stream: an engine holds a bounded number of them.
            on_progress: Told how many items are dealt with.

        Yields:
            An outcome for each durable batch, in any order. Closing the iterator stops the run;
            what was written stays.

        Raises:
            ValueError: an encoder that does not give what its space promises.
        """


def write(store: Store, batch: Batch) -> Outcome:
    """Make one batch durable, as one part; every engine writes by this."""
    if len(batch.embeddings):
        store.write(
            batch.embeddings,
            content_hashes=batch.content_hashes,
            event_timestamps=batch.event_timestamps,
            imputed=batch.imputed,
        )
    return Outcome(
        num_embedded=len(batch.embeddings),
        num_unchanged=batch.num_unchanged,
        rejects=tuple(batch.rejects),
        lost_ids=tuple(batch.lost_ids),
    )
