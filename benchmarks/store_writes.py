"""The same rows in, the cost of appending and of materializing them by us and by Feast out.

Appending: new vectors into a view that holds 100,000 of 384 dimensions, by `Store.write` (one more
parquet file, synced to the disk) against Feast's own `write_to_offline_store` on a file source of
the same rows, which reads the file and writes it again.

Materializing: equal rows into equal SQLite online stores, by `Store.materialize` (every row is read
back and compared) against Feast's own `materialize` (nothing is). Both sides read the same parts by
the same definitions, each in a store of its own that starts empty.
"""

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _figures import cpu_seconds, figure, parser, publish

with warnings.catch_warnings():  # Feast resets the filters while it is imported
    import feast
    from feast.types import Array, Float32, String

from embedders.items import EPOCH, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo import parts
from feature_repo.feast_store import FeastStore
from feature_repo.store import Store
from feature_repo.tables import vector_view

DIM = 384
ROWS_PER_PART = 10_000
SPACE = Space(modality=Modality.TEXT, encoder="random", revision="1", dim=DIM)
VIEW = vector_view(SPACE)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def embeddings(num_rows: int, *, first: int) -> Embeddings:
    """Random unit vectors of so many ids, from a number on."""
    vectors_ND = np.random.default_rng(first).standard_normal((num_rows, DIM), dtype=np.float32)
    ids = [f"item-{first + n:07d}" for n in range(num_rows)]
    return Embeddings(space=SPACE, item_ids=ids, vectors_ND=normalize(vectors_ND))


def write(store: Store, rows: Embeddings) -> None:
    """Append by us."""
    hashes = [f"{n:032x}" for n in range(len(rows))]
    store.write(rows, content_hashes=hashes, event_timestamps=[EPOCH] * len(rows))


def filled(root: Path, num_rows: int) -> Store:
    """A store with so many vectors in parts of 10,000."""
    store = Store(root)
    for first in range(0, num_rows, ROWS_PER_PART):
        write(store, embeddings(min(ROWS_PER_PART, num_rows - first), first=first))
    return store


def one_file(store: Store, path: Path) -> None:
    """The store's vectors as Feast's own append wants them: one file of the view's columns."""
    columns = [VIEW.key, "event_timestamp", "created", "vector"]
    rows = parts.latest(store.root, VIEW, columns=columns)
    pq.write_table(rows.cast(pa.schema([VIEW.schema.field(name) for name in columns])), path)


def feast_on(path: Path, folder: Path) -> feast.FeatureStore:
    """A Feast project of one view on one file."""
    config = feast.RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
    )
    store = feast.FeatureStore(config=config)
    entity = feast.Entity(name="item", join_keys=["item_id"], value_type=feast.ValueType.STRING)
    source = feast.FileSource(
        name="rows",
        path=str(path),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    fields = [
        feast.Field(name="item_id", dtype=String),
        feast.Field(name="vector", dtype=Array(Float32)),
    ]
    view = feast.FeatureView(
        name="vectors", entities=[entity], schema=fields, source=source, ttl=timedelta(days=36_525)
    )
    store.apply([entity, view])
    return store


def append_ratios(folder: Path, *, num_held: int, num_new: int, rounds: int) -> Iterator[float]:
    """Feast's CPU time / ours, for the same new rows."""
    store = filled(folder / "append", num_held)
    original, file = folder / "original.parquet", folder / "rows.parquet"
    one_file(store, original)
    shutil.copy(original, file)
    theirs = feast_on(file, folder)
    for number in range(rounds):
        shutil.copy(original, file)  # each round appends to equally many rows
        rows = embeddings(num_new, first=num_held + number * num_new)
        frame = pa.table(
            {
                "item_id": rows.item_ids,
                "event_timestamp": pa.array([EPOCH] * num_new, pa.timestamp("us", "UTC")),
                "created": pa.array([NOW] * num_new, pa.timestamp("us", "UTC")),
                "vector": pa.array(list(rows.vectors_ND), pa.list_(pa.float32())),
            }
        ).to_pandas()
        ours_s, _ = cpu_seconds(write, store, rows)
        theirs_s, _ = cpu_seconds(theirs.write_to_offline_store, "vectors", frame)
        assert pq.read_metadata(file).num_rows == num_held + num_new
        yield theirs_s / ours_s


def materialize_ratios(folder: Path, *, num_rows: int, rounds: int) -> Iterator[float]:
    """Feast's CPU time / ours, for the same rows into empty stores."""
    source = filled(folder / "source", num_rows)
    for number in range(rounds):
        ours, theirs = (_copy(source, folder / f"{side}-{number}") for side in ("ours", "theirs"))
        engine = theirs.feature_store
        assert isinstance(engine, FeastStore)
        ours_s, counts = cpu_seconds(ours.materialize, NOW)
        assert counts[VIEW.name] == num_rows
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            theirs_s, _ = cpu_seconds(engine._feast.materialize, EPOCH - timedelta(days=1), NOW)
        ids = [f"item-{n:07d}" for n in range(num_rows)]
        assert all(row is not None for row in engine.read_online(VIEW.name, ids))
        yield theirs_s / ours_s


def _copy(source: Store, root: Path) -> Store:
    shutil.copytree(source.root, root)
    store = Store(root)
    store.apply()
    return store


def main() -> None:
    """Measure, print, write."""
    options = parser("Appending and materializing vectors, against Feast's own ways.")
    options.add_argument("--held", type=int, default=100_000, help="rows before an append")
    options.add_argument("--new", type=int, default=1_000, help="rows of an append")
    options.add_argument("--rows", type=int, default=10_000, help="rows to materialize")
    asked = options.parse_args()
    with TemporaryDirectory(prefix="store-writes-") as folder:
        held = {"num_held": asked.held, "num_new": asked.new}
        appended = list(append_ratios(Path(folder), rounds=asked.rounds, **held))
        materialized = list(
            materialize_ratios(Path(folder), num_rows=asked.rows, rounds=asked.rounds)
        )
    publish(
        f"Writes of {DIM} dimensions, {asked.rounds} rounds",
        {
            "append_vs_feast_offline_write": figure(appended),
            "materialize_rows_per_s_vs_feast": figure(materialized),
        },
        {
            "append_vs_feast_offline_write": f"CPU time of Feast / ours: {asked.new:,} rows "
            f"appended to {asked.held:,}",
            "materialize_rows_per_s_vs_feast": f"CPU time of Feast / ours, which verifies: "
            f"{asked.rows:,} rows into an empty SQLite",
        },
        file=asked.json,
        packages=("feast", "duckdb", "pyarrow"),
    )


if __name__ == "__main__":
    main()
