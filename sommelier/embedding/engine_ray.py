"""A job and its items in, batches written by many processes out: the job on Ray Data.

This process streams the catalog: it sifts out what costs nothing to sift, cuts the rest into
tables of a few batches, and hands a window of them at a time to Ray Data, which keeps a pool of
workers busy, on this machine or on a cluster's. A worker makes the embedder from the job, embeds
as the local engine does and writes its batches itself: no vector passes through here.

A worker that dies is replaced and its table embedded again: rows that it had written are then in
the store twice, with the same time and content, and readers take the later ones. Ray sends the job
and the workers' class as pickles; whoever can reach a cluster can run code on it anyway.
"""

import logging
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from embedders.base import BadContent, Embedder
from embedders.embed import embed
from embedders.items import Item, Reject
from embedders.known import DELETED, Known
from sommelier.embedding.engine import EmbeddingJob, Engine, OnProgress, Outcome, write
from sommelier.embedding.pairs import Pair, of_table, to_table

TASK_BATCHES = 4  # a table of as many batches: where most items are unchanged, parts stay few
WINDOW_BYTES = 256 << 20  # of tables that wait in Ray's object store; beyond it they would spill
WORKER_THREADS = 2  # of each worker: one item is decoded while others are encoded
REACHED_WITHIN_S = 10.0
RESTARTS = 3  # a picture that kills whoever decodes it must not kill workers for ever

REJECT = pa.struct({"source": pa.string(), "key": pa.string(), "reason": pa.string()})
OUTCOME = pa.schema(
    {
        "num_items": pa.int64(),
        "num_embedded": pa.int64(),
        "num_unchanged": pa.int64(),
        "rejects": pa.list_(REJECT),
        "lost_ids": pa.list_(pa.string()),
        "error": pa.string(),
        "message": pa.string(),
    }
)
TableRef = Any  # of a table in Ray's object store; Ray has two types by that name
# What a user can mend; whatever else a worker meets keeps its traceback.
ERRORS = {"ImportError": ImportError, "OSError": OSError, "ValueError": ValueError}


class RayEngine(Engine):
    """Encodes in the workers of a Ray cluster, which all see the catalog and the store."""

    def __init__(
        self,
        *,
        address: str | None = None,
        num_workers: int = 4,
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        """An engine on a cluster.

        Args:
            address: Of a running cluster, such as "auto" within it; None starts one of this
                machine alone and ends it with the run.
            num_workers: The most processes that embed at once; a smaller cluster runs fewer.
            cpus: What each of them takes of the cluster's CPUs.
            gpus: What each of them takes of the cluster's GPUs.
        """
        self._address = address
        self._num_workers = max(1, num_workers)
        self._cpus = cpus
        self._gpus = gpus

    def run(
        self,
        job: EmbeddingJob,
        embedder: Embedder,
        pairs: Iterable[Pair],
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Outcome]:
        """As the contract says; outcomes come in no order.

        Raises:
            OSError: there is no such cluster, it was lost, or a worker died again and again.
        """
        batch_rows = job.batch_rows or embedder.rows_per_batch
        task_rows = batch_rows * (TASK_BATCHES if embedder.reads_media else 1)
        sieve = _Sieve(job, embedder)
        left = sieve.sifted(pairs)
        num_done = 0
        with _cluster(self._address, num_cpus=int(self._num_workers * self._cpus) + 1):
            while tables := _window(left, task_rows):
                for outcome, num_items in self._embedded(job, tables):
                    num_done += num_items
                    if on_progress:
                        on_progress(sieve.num_settled + num_done)
                    yield outcome
        if sieve.num_unchanged:
            yield Outcome(num_embedded=0, num_unchanged=sieve.num_unchanged)
        if on_progress:
            on_progress(sieve.num_settled + num_done)

    def _embedded(self, job: EmbeddingJob, tables: list[TableRef]) -> Iterator[tuple[Outcome, int]]:
        try:
            rows = self._pipeline(job, tables)
            for row in rows.iter_rows():
                yield _outcome(row)
        except RayError as error:
            raise OSError(
                f"the Ray cluster could not finish: {_first_line(error)}. What was embedded is in "
                "the store, and the same command goes on from there"
            ) from error

    def _pipeline(self, job: EmbeddingJob, tables: list[TableRef]) -> ray.data.Dataset:
        size = min(self._num_workers, len(tables))
        # One to begin with: Ray Data waits for ever for a pool that finds no room in the cluster.
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=size)
        with warnings.catch_warnings():
            # The only way to bound restarts, which are endless by default, until Ray 2.64.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            return ray.data.from_arrow_refs(tables).map_batches(
                _Worker,
                fn_constructor_kwargs={"job": job},
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=self._cpus,
                num_gpus=self._gpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )


class _Sieve:
    """Settles here what needs no worker: items whose fingerprint costs nothing and is known."""

    def __init__(self, job: EmbeddingJob, embedder: Embedder) -> None:
        self._job = job
        self._embedder = embedder
        self.num_settled = 0
        self.num_unchanged = 0

    def sifted(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs that a worker has to look at."""
        for item, known in pairs:
            if self._embedder.reads_media or self._is_for_a_worker(item, known):
                yield item, known
            else:
                self.num_settled += 1

    def _is_for_a_worker(self, item: Item, known: Known | None) -> bool:
        try:
            content_hash = self._embedder.fingerprint(item)
        except BadContent:
            return True  # there it becomes a reject
        if content_hash is None:
            return known is not None and known.content_hash != DELETED
        if known is not None and known.is_current(content_hash, self._job.renew_before):
            self.num_unchanged += 1
            return False
        return True


class _Worker:
    """Embeds tables of pairs in a process of its own and writes the batches."""

    def __init__(self, job: EmbeddingJob) -> None:
        self._job = job
        self._embedder: Embedder | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """One table of pairs; what became of it, batch by batch."""
        num_items = table.num_rows
        try:
            # Not in the constructor: an error there would reach the user as Ray's, not as ours.
            self._embedder = self._embedder or self._job.make_embedder()
            store = self._job.store()
            for batch in embed(
                self._embedder,
                of_table(table),
                batch_rows=self._job.batch_rows,
                num_workers=WORKER_THREADS,
                now=self._job.now,
                renew_before=self._job.renew_before,
            ):
                yield _row(write(store, batch))
        except (ImportError, OSError, ValueError) as error:
            yield _failed(error)
            return
        yield _row(Outcome(num_embedded=0, num_unchanged=0), num_items=num_items)


def _window(pairs: Iterator[Pair], task_rows: int) -> list[TableRef]:
    """The next tables, put where workers find them; no table is held here."""
    refs = []
    num_bytes = 0
    while num_bytes < WINDOW_BYTES and (chunk := list(islice(pairs, task_rows))):
        table = to_table(chunk)
        num_bytes += table.nbytes
        refs.append(ray.put(table))
    return refs


def _row(outcome: Outcome, *, num_items: int = 0) -> pa.Table:
    rejects = [
        {"source": one.source, "key": one.key, "reason": one.reason} for one in outcome.rejects
    ]
    row = {
        "num_items": num_items,
        "num_embedded": outcome.num_embedded,
        "num_unchanged": outcome.num_unchanged,
        "rejects": rejects,
        "lost_ids": list(outcome.lost_ids),
    }
    return pa.Table.from_pylist([row], schema=OUTCOME)


def _failed(error: Exception) -> pa.Table:
    name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
    row = {"error": name, "message": f"{error} (on {socket.gethostname()})"}
    return pa.Table.from_pylist([row], schema=OUTCOME)


def _outcome(row: dict[str, Any]) -> tuple[Outcome, int]:
    """A worker's row as an outcome, and the number of items that it settles.

    Raises:
        ValueError, OSError, ImportError: what the worker met.
    """
    if row["error"] is not None:
        raise ERRORS[str(row["error"])](row["message"])
    outcome = Outcome(
        num_embedded=row["num_embedded"],
        num_unchanged=row["num_unchanged"],
        rejects=tuple(Reject(**one) for one in row["rejects"]),
        lost_ids=tuple(row["lost_ids"]),
    )
    return outcome, row["num_items"]


@contextmanager
def _cluster(address: str | None, *, num_cpus: int) -> Iterator[None]:
    """Connected to a cluster within the block: the one there is, one at the address, or a new one.

    Raises:
        ConnectionError: none answers at the address.
    """
    if ray.is_initialized():
        _configure()
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            # More logical CPUs than there are do no harm, too few would leave workers waiting.
            ray.init("local", num_cpus=num_cpus, include_dashboard=False, **quiet)
        else:
            _reach(address)
            ray.init(address, **quiet)
    except (OSError, RayError, RuntimeError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise ConnectionError(
            f"no Ray cluster {where}: {_first_line(error)}. See embedding.ray_address"
        ) from error
    try:
        _configure()
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Fails at once where nobody listens; Ray itself asks again for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():  # else a name such as "auto", which Ray looks up
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN_S).close()


def _configure() -> None:
    with warnings.catch_warnings():
        # Ray's own context sets fields that it has deprecated itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # whoever runs the engine shows its progress
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the console's, not the file's
            handler.setLevel(logging.CRITICAL)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
