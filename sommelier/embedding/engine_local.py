"""A job and its items in, batches written by this process out: threads read ahead, one encodes."""

from collections.abc import Iterable, Iterator

from embedders.base import Embedder
from embedders.embed import embed
from embedders.items import Item
from embedders.known import Known
from sommelier.embedding.engine import EmbeddingJob, Engine, OnProgress, Outcome, write


class LocalEngine(Engine):
    """Encodes in the calling thread, where the model's own threads are at work anyway."""

    def __init__(self, *, num_workers: int = 4) -> None:
        """An engine in this process.

        Args:
            num_workers: Threads that fingerprint and decode ahead; 0 or 1 for none.
        """
        self._num_workers = num_workers

    def run(
        self,
        job: EmbeddingJob,
        embedder: Embedder,
        pairs: Iterable[tuple[Item, Known | None]],
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Outcome]:
        """As the contract says; outcomes come in the items' order."""
        store = job.store()
        batches = embed(
            embedder,
            pairs,
            batch_rows=job.batch_rows,
            num_workers=self._num_workers,
            on_progress=on_progress,
            now=job.now,
            renew_before=job.renew_before,
        )
        for batch in batches:
            yield write(store, batch)
