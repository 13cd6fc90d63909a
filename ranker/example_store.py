"""Training examples in, parquet shards out; and back, one by one, when they are asked for.

    <folder>/examples.json        what the shards were made from, and how many there are
             00000.parquet ...    the examples of one block of moments each, in order; maybe none

A shard is written aside and renamed, so whatever has a name is whole, and a collection that was
killed goes on with the blocks that have none. Reading holds a bounded number of row groups in
memory, as Arrow keeps them: about a seventh of what their examples would take.

Floats are kept in full, so that an example is read back equal.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from embedders.items import EPOCH, Interaction
from feature_repo.atomic import publish, replace_text
from ranker.moments import Example
from retrieval.candidates import Candidate, Query

T = TypeVar("T")

FORMAT = 2
FACTS = "examples.json"
GROUP = 32  # examples of one row group, the least that is read at once
HELD = 256  # row groups in memory at once
OPEN = 64  # shards whose footers are

TIME = pa.timestamp("us", tz="UTC")
EVENT = pa.struct(
    {
        "item_id": pa.string(),
        "behavior": pa.string(),
        "user_id": pa.string(),
        "timestamp": TIME,
        "weight": pa.float64(),
        "position": pa.int64(),
    }
)
COLUMNS = {
    "user_id": pa.string(),
    "as_of": TIME,
    "behavior": pa.string(),
    "preference": pa.string(),
    "history": pa.list_(EVENT),
    "chosen": pa.list_(pa.string()),
    "masked": pa.list_(pa.string()),
    "item_id": pa.list_(pa.string()),
    "score": pa.list_(pa.float64()),
    "rank": pa.list_(pa.int64()),
}
EVIDENCE, SUPPORT, WEIGHTS = "evidence.", "support.", b"weights"


class ExampleStoreError(ValueError):
    """Stored examples cannot be read; the message says what to run."""


class Outline(NamedTuple):
    """What tells an example from others, without its lists."""

    user_id: str
    as_of: datetime | None
    chosen: frozenset[str]


class ExampleStore:
    """One collection of examples below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, key: str, *, num_blocks: int) -> list[int]:
        """Prepare for a collection; what was collected from something else is thrown away.

        Args:
            key: Changes with whatever the examples are made from.
            num_blocks: How many blocks there will be.

        Returns:
            The places of the blocks that are not written yet.
        """
        facts = {"format": FORMAT, "key": key, "num_blocks": num_blocks}
        if self._facts() != facts:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob("*.parquet"):
                path.unlink()
            replace_text(self.folder / FACTS, json.dumps(facts, sort_keys=True) + "\n")
        return [place for place in range(num_blocks) if not self._path(place).exists()]

    def write(self, place: int, examples: Sequence[Example]) -> None:
        """Keep the examples of one block; the shard appears whole or not at all."""
        path = self._path(place)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        pq.write_table(to_table(examples), temporary, row_group_size=GROUP, compression="zstd")
        publish(temporary, path)

    def read(self) -> "StoredExamples":
        """All of them.

        Raises:
            ExampleStoreError: a block is missing or damaged.
        """
        facts = self._facts()
        if facts is None:
            raise ExampleStoreError(f"{self.folder} holds no examples: run `sommelier train`")
        return StoredExamples([self._path(place) for place in range(facts["num_blocks"])])

    def _facts(self) -> dict[str, Any] | None:
        """None where nothing was begun, or by another version."""
        try:
            facts = json.loads((self.folder / FACTS).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) and facts.get("format") == FORMAT else None

    def _path(self, place: int) -> Path:
        return self.folder / f"{place:05d}.parquet"


class StoredExamples(Sequence[Example]):
    """Examples on disk, in order. An example is made anew each time it is asked for."""

    def __init__(self, shards: Sequence[Path]) -> None:
        """Read how many examples each shard holds.

        Raises:
            ExampleStoreError: a shard is missing or damaged.
        """
        self._shards = tuple(shards)
        sizes = [_read(path, lambda path: pq.read_metadata(path).num_rows) for path in shards]
        self._ends = list(accumulate(sizes))
        self._file = lru_cache(maxsize=OPEN)(self._opened)
        self._group = lru_cache(maxsize=HELD)(self._loaded)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "Picked": ...
    def __getitem__(self, place: int | slice) -> "Example | Picked":
        if isinstance(place, slice):
            return Picked(self, range(len(self))[place])
        row = range(len(self))[place]
        shard = bisect_right(self._ends, row)
        row -= self._ends[shard - 1] if shard else 0
        return to_example(self._group(shard, row // GROUP), row % GROUP)

    def outlines(self) -> list[Outline]:
        """Who was asked when and chose what, of each example; its lists are not read."""
        return [
            Outline(user_id, _moment(as_of), frozenset(chosen))
            for path in self._shards
            for user_id, as_of, chosen in _read(path, _outlined)
        ]

    def _opened(self, shard: int) -> pq.ParquetFile:
        return _read(self._shards[shard], pq.ParquetFile)

    def _loaded(self, shard: int, group: int) -> pa.Table:
        file = self._file(shard)
        return _read(self._shards[shard], lambda _: file.read_row_group(group))


class Picked(Sequence[Example]):
    """Some of many examples, in an order of their own; nothing is copied."""

    def __init__(self, examples: Sequence[Example], places: Sequence[int]) -> None:
        self._examples = examples
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "Picked": ...
    def __getitem__(self, place: int | slice) -> "Example | Picked":
        if isinstance(place, slice):
            return Picked(self._examples, self._places[place])
        return self._examples[self._places[place]]


def to_table(examples: Sequence[Example]) -> pa.Table:
    """One row for each; what is told of a block of vectors is a column of that block's.

    The retriever's weights, the same for all, are in the schema.
    """
    assert len({tuple(sorted(one.weights.items())) for one in examples}) <= 1
    assert all(one.query == _query(one.query) for one in examples), "more was asked than is kept"
    found = [one.candidates for one in examples]
    columns = {
        "user_id": [one.query.user_id for one in examples],
        "as_of": [one.query.as_of for one in examples],
        "behavior": [one.query.behavior for one in examples],
        "preference": [one.query.preference for one in examples],
        "history": [_events(one.query.history) for one in examples],
        "chosen": [sorted(one.chosen) for one in examples],
        "masked": [sorted(one.masked) for one in examples],
        "item_id": [[one.item_id for one in candidates] for candidates in found],
        "score": [[one.score for one in candidates] for candidates in found],
        "rank": [[one.rank for one in candidates] for candidates in found],
    }
    schema = dict(COLUMNS)
    for prefix, told in ((EVIDENCE, _evidence), (SUPPORT, _support)):
        for name in sorted({str(name) for one in found for c in one for name in told(c)}):
            columns[prefix + name] = [[told(c).get(name) for c in one] for one in found]
            schema[prefix + name] = pa.list_(pa.float64())
    weights = dict(examples[0].weights) if examples else {}
    metadata = {WEIGHTS: json.dumps(weights, sort_keys=True).encode()}
    return pa.table(columns, schema=pa.schema(schema, metadata=metadata))


def to_example(table: pa.Table, row: int) -> Example:
    """The example of one row."""
    values = {name: table[name][row] for name in table.column_names}
    item_ids, scores, ranks = (values[name].as_py() for name in ("item_id", "score", "rank"))
    evidence, support = (
        _by_candidate(values, prefix, len(item_ids)) for prefix in (EVIDENCE, SUPPORT)
    )
    candidates = tuple(
        Candidate(item_id=item_id, score=score, rank=rank, evidence=found, support=agreed)
        for item_id, score, rank, found, agreed in zip(
            item_ids, scores, ranks, evidence, support, strict=True
        )
    )
    return Example(
        query=Query(
            user_id=values["user_id"].as_py(),
            history=_history(values["history"]),
            as_of=_moment(values["as_of"].value),
            behavior=values["behavior"].as_py(),
            preference=values["preference"].as_py(),
        ),
        candidates=candidates,
        chosen=frozenset(values["chosen"].as_py()),
        weights=json.loads(table.schema.metadata[WEIGHTS]),
        masked=frozenset(values["masked"].as_py()),
    )


def _query(query: Query) -> Query:
    """The part that is kept."""
    return Query(
        user_id=query.user_id,
        history=query.history,
        as_of=query.as_of,
        behavior=query.behavior,
        preference=query.preference,
    )


def _evidence(candidate: Candidate) -> Mapping[str, float]:
    return candidate.evidence


def _support(candidate: Candidate) -> Mapping[str, float]:
    return candidate.support


def _by_candidate(
    values: Mapping[str, pa.Scalar], prefix: str, count: int
) -> list[dict[str, float]]:
    """What is told of each of `count` candidates, by block; what is null was not told."""
    found: list[dict[str, float]] = [{} for _ in range(count)]
    for column, values_N in values.items():
        if column.startswith(prefix):
            name = column.removeprefix(prefix)
            for one, value in zip(found, values_N.as_py(), strict=True):
                if value is not None:
                    one[name] = value
    return found


def _events(history: Sequence[Interaction] | None) -> list[dict[str, object]] | None:
    if history is None:
        return None
    return [{name: getattr(event, name) for name in EVENT.names} for event in history]


def _history(events: pa.ListScalar) -> tuple[Interaction, ...] | None:
    if not events.is_valid:
        return None
    fields = dict(zip(EVENT.names, events.values.flatten(), strict=True))
    moments = map(_moment, fields.pop("timestamp").cast(pa.int64()).to_pylist())
    rows = zip(*(column.to_pylist() for column in fields.values()), strict=True)
    return tuple(
        Interaction(timestamp=moment, **dict(zip(fields, row, strict=True)))
        for moment, row in zip(moments, rows, strict=True)
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def _outlined(path: Path) -> Iterable[tuple[str, int | None, list[str]]]:
    table = pq.read_table(path, columns=["user_id", "as_of", "chosen"])
    return zip(
        table["user_id"].to_pylist(),
        table["as_of"].cast(pa.int64()).to_pylist(),
        table["chosen"].to_pylist(),
        strict=True,
    )


def _read(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ExampleStoreError(
            f"{path} is missing or damaged ({error}): remove {path.parent} and run "
            f"`sommelier train` again"
        ) from error
