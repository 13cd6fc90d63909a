"""Batches of an evaluation in, as they are finished; the same batches out after a kill.

    <folder>/<key>/<route>/<first user>.parquet    one batch each, there whole or not at all

The key stands for everything that a batch depends on: whoever opens the journal hashes it. A file
that is damaged, or of other users than asked for, counts as missing and its batch is made again.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.atomic import replace_bytes

FACTS = b"sommelier"
IDS, SCORES = pa.list_(pa.string()), pa.list_(pa.float64())
SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "retrieved": IDS,
        "retrieval_score": SCORES,
        "reranked": IDS,
        "score": SCORES,
        "logit": SCORES,
        "traced": IDS,
        "exact_rank": pa.list_(pa.int64()),
        "num_first": pa.int64(),
        "num_first_found": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one user's query along one route."""

    user_id: str
    retrieved: Sequence[str]
    """Best first."""
    retrieval_score: Sequence[float]
    reranked: Sequence[str] | None = None
    """The same items in the final order; None where nobody reranked them."""
    score: Sequence[float] | None = None
    """Of the final order; 0 for items that could not be ranked, which come last."""
    logit: Sequence[float] | None = None
    """The LLM's part of each score, at the weight that it had in it."""
    traced: Sequence[str] | None = None
    """Judged items that exact search ranks, by id; None where exact search was not asked."""
    exact_rank: Sequence[int] | None = None
    """Theirs, from 1."""
    num_first: int | None = None
    """How many items exact search would have put among the first `limit`; None where the two
    were not compared."""
    num_first_found: int | None = None
    """How many of these were retrieved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of some users, and how long it took."""

    outcomes: tuple[Outcome, ...]
    generation_ids: tuple[str, ...] = ()
    retrieve_s: float = 0.0
    rerank_s: float = 0.0
    exact_s: float = 0.0


class Journal:
    """Batches of one evaluation on disk."""

    def __init__(self, folder: Path, *, key: str) -> None:
        """Open or begin it.

        Args:
            folder: Where journals lie; those of other keys are deleted, for they are of
                evaluations that nobody will go on with.
            key: Changes when anything does that a batch depends on.
        """
        self._root = folder
        self._folder = folder / key
        for other in folder.iterdir() if folder.is_dir() else ():
            if other.name != key and other.is_dir():
                shutil.rmtree(other)

    def read(self, route: str, *, start: int, user_ids: Sequence[str]) -> Batch | None:
        """The batch of these users; None where it has to be made."""
        try:
            content = self._path(route, start).read_bytes()
        except FileNotFoundError:
            return None
        with suppress(pa.ArrowInvalid, KeyError, OSError, TypeError, ValueError):
            batch = _batch(content)
            if [one.user_id for one in batch.outcomes] == list(user_ids):
                return batch
        return None

    def write(self, route: str, batch: Batch, *, start: int) -> None:
        """Keep a finished batch."""
        path = self._path(route, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, _content(batch))

    def clear(self) -> None:
        """Delete it: the evaluation is done, and its report written."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # somebody else's files are in it
            self._root.rmdir()

    def _path(self, route: str, start: int) -> Path:
        return self._folder / quote(route, safe="") / f"{start:09}.parquet"


def _content(batch: Batch) -> bytes:
    facts = {
        "generation_ids": list(batch.generation_ids),
        "retrieve_s": batch.retrieve_s,
        "rerank_s": batch.rerank_s,
        "exact_s": batch.exact_s,
    }
    columns = [
        pa.array([getattr(one, name) for one in batch.outcomes], SCHEMA.field(name).type)
        for name in SCHEMA.names
    ]
    schema = SCHEMA.with_metadata({FACTS: json.dumps(facts).encode()})
    buffer = BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer)
    return buffer.getvalue()


def _batch(content: bytes) -> Batch:
    table = pq.read_table(BytesIO(content))
    facts = json.loads(table.schema.metadata[FACTS])
    return Batch(
        outcomes=tuple(Outcome(**row) for row in table.select(SCHEMA.names).to_pylist()),
        generation_ids=tuple(facts["generation_ids"]),
        retrieve_s=facts["retrieve_s"],
        rerank_s=facts["rerank_s"],
        exact_s=facts["exact_s"],
    )
