"""An evaluation in, its rankings and truths as files beside the report out; and back.

    runs/<route>.parquet   user_id, item_ids (best first), scores
    judgements.parquet     user_id, as_of, item_ids, unknown_item_ids
    parts.parquet          group, name, user_id, item_ids: the judgements of every slice
    ledger.parquet         user_id, item_id, cause, exact_rank, retrieval_rank, final_rank

So whoever doubts a number can count it again, and `sommelier compare` finds what it compares. Each
file appears whole or not at all; users are written and read in blocks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.judgements import Judgement
from evaluation.ledger import Positive
from evaluation.packed import RunPacker
from evaluation.runs import Run
from evaluation.slices import Part
from feature_repo.atomic import publish

RUNS = "runs"
JUDGEMENTS, PARTS, LEDGER = "judgements.parquet", "parts.parquet", "ledger.parquet"
BLOCK = 4096  # rows that are held at a time
NAME = b"sommelier.run"

IDS = pa.list_(pa.string())
RUN_SCHEMA = pa.schema({"user_id": pa.string(), "item_ids": IDS, "scores": pa.list_(pa.float64())})
JUDGEMENT_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "as_of": pa.timestamp("us", tz="UTC"),
        "item_ids": IDS,
        "unknown_item_ids": IDS,
    }
)
PART_SCHEMA = pa.schema(
    {"group": pa.string(), "name": pa.string(), "user_id": pa.string(), "item_ids": IDS}
)
LEDGER_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "cause": pa.string(),
        "exact_rank": pa.int64(),
        "retrieval_rank": pa.int64(),
        "final_rank": pa.int64(),
    }
)


class UnusableRun(ValueError):
    """Rankings on disk are missing or not what they should be; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What one evaluation left beside its report."""

    folder: Path

    @property
    def judgements(self) -> Path:
        return self.folder / JUDGEMENTS

    @property
    def ledger(self) -> Path:
        return self.folder / LEDGER

    def run(self, route: str) -> Path:
        """Where the rankings of a route lie."""
        return self.folder / RUNS / f"{route}.parquet"

    @property
    def routes(self) -> list[str]:
        """The routes whose rankings are there, by name."""
        return sorted(path.stem for path in (self.folder / RUNS).glob("*.parquet"))


def write(
    folder: Path,
    *,
    runs: Mapping[str, Run],
    judgements: Sequence[Judgement],
    parts: Sequence[Part] = (),
    positives: Sequence[Positive] = (),
) -> RunFiles:
    """Write all of it into `folder`, over any earlier ones there; runs of other routes go."""
    files = RunFiles(folder=folder)
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    for route in set(files.routes) - runs.keys():
        files.run(route).unlink()
    for route, run in runs.items():
        write_run(run, files.run(route))
    _write(files.judgements, JUDGEMENT_SCHEMA, map(_judgement_row, judgements))
    _write(folder / PARTS, PART_SCHEMA, _part_rows(parts))
    _write(
        files.ledger,
        LEDGER_SCHEMA,
        ({name: getattr(one, name) for name in LEDGER_SCHEMA.names} for one in positives),
    )
    return files


def write_run(run: Run, path: Path) -> None:
    """Write one run, users in its order."""
    rows = (
        {
            "user_id": user_id,
            "item_ids": list(ranked),
            "scores": None if run.scores is None else list(run.scores[user_id]),
        }
        for user_id, ranked in run.rankings.items()
    )
    _write(path, RUN_SCHEMA.with_metadata({NAME: run.name.encode()}), rows)


def read_run(path: Path) -> Run:
    """The run that `write_run` wrote.

    Raises:
        UnusableRun: it is missing, damaged, or lists a user twice.
    """
    rankings: dict[str, Sequence[str]] = {}
    packer: RunPacker | None = None
    try:
        name = _name(path)
        for row in _rows(path, RUN_SCHEMA):
            if row["scores"] is None:
                rankings[row["user_id"]] = row["item_ids"]
                continue
            packer = packer or RunPacker(name)
            packer.add(row["user_id"], row["item_ids"], row["scores"])
        if packer is not None and rankings:
            raise UnusableRun(f"{path} has scores for some users only: evaluate again")
        return Run(name=name, rankings=rankings) if packer is None else packer.run()
    except UnusableRun:
        raise
    except ValueError as error:  # of a run that contradicts itself
        raise UnusableRun(f"{path} is no run: {error}") from error


def read_judgements(folder: Path) -> tuple[Judgement, ...]:
    """The judgements that `write` wrote.

    Raises:
        UnusableRun: they are missing or damaged.
    """
    return tuple(
        Judgement(
            user_id=row["user_id"],
            as_of=row["as_of"],
            item_ids=frozenset(row["item_ids"]),
            unknown_item_ids=frozenset(row["unknown_item_ids"]),
        )
        for row in _rows(folder / JUDGEMENTS, JUDGEMENT_SCHEMA)
    )


def read_parts(folder: Path, judgements: Sequence[Judgement]) -> tuple[Part, ...]:
    """The slices of these judgements that `write` wrote.

    Raises:
        UnusableRun: they are missing or damaged, or of other users.
    """
    as_of = {one.user_id: one.as_of for one in judgements}
    rows = _rows(folder / PARTS, PART_SCHEMA)
    found = []
    for (group, name), members in groupby(rows, key=lambda row: (row["group"], row["name"])):
        kept = [row for row in members if row["user_id"] in as_of]
        part = tuple(
            Judgement(
                user_id=row["user_id"],
                as_of=as_of[row["user_id"]],
                item_ids=frozenset(row["item_ids"]),
            )
            for row in kept
        )
        if part:
            found.append(Part(group=group, name=name, judgements=part))
    return tuple(found)


def _judgement_row(one: Judgement) -> dict[str, Any]:
    return {
        "user_id": one.user_id,
        "as_of": one.as_of,
        "item_ids": sorted(one.item_ids),
        "unknown_item_ids": sorted(one.unknown_item_ids),
    }


def _part_rows(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    for part in parts:
        for one in part.judgements:
            yield {
                "group": part.group,
                "name": part.name,
                "user_id": one.user_id,
                "item_ids": sorted(one.item_ids),
            }


def _write(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    left = iter(rows)
    try:
        with pq.ParquetWriter(temporary, schema) as file:
            while block := list(islice(left, BLOCK)):
                file.write_table(pa.Table.from_pylist(block, schema=schema))
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.remove_metadata()
            if not found.equals(schema.remove_metadata()):
                raise UnusableRun(f"{path} has the columns {found.names}: evaluate again")
            for batch in file.iter_batches(batch_size=BLOCK):
                yield from batch.to_pylist()
    except FileNotFoundError as error:
        raise UnusableRun(f"{path} is missing: run `sommelier evaluate`") from error
    except (OSError, pa.ArrowException) as error:
        raise UnusableRun(f"{path} is damaged ({error}): evaluate again") from error


def _name(path: Path) -> str:
    try:
        facts = pq.read_schema(path).metadata or {}
    except FileNotFoundError as error:
        raise UnusableRun(f"{path} is missing: run `sommelier evaluate`") from error
    except (OSError, pa.ArrowException) as error:
        raise UnusableRun(f"{path} is damaged ({error}): evaluate again") from error
    return str(facts.get(NAME, path.stem.encode()).decode())
