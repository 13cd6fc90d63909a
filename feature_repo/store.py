"""Vectors, profiles and histories in; what was known at any moment out.

Writing and reading parquet needs no Feast; `apply`, `materialize` and `histories` do, and the
first of them in a process takes seconds to import it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.items import Interaction, Item, Reject
from embedders.vectors import Embeddings, Space
from feature_repo import parts, spaces, windows
from feature_repo.base import Entity, FeatureStore, HistoryConfig, Profile, StoreError
from feature_repo.materialize import materialize
from feature_repo.registry import open_feature_store
from feature_repo.tables import (
    INSTANT,
    REJECT_SCHEMA,
    all_views,
    history_view,
    profile_view,
    vector_view,
)

ROWS_PER_BATCH = 10_000


class Store:
    """Everything that is known of items and users, by the time since when it is true.

    Rows are only ever appended, so several processes may write at once.
    """

    def __init__(
        self, root: Path, *, profile: Path | None = None, history: HistoryConfig | None = None
    ) -> None:
        """A store in the folder `root`, which need not exist yet.

        Args:
            root: Where the rows are kept.
            profile: A `feature_store.yaml`; None for the embedded one.
            history: How much of the past each history keeps.
        """
        self.root = root.absolute()
        self._profile = profile
        self._history = history or HistoryConfig()
        self._feature_store: FeatureStore | None = None

    @property
    def feature_store(self) -> FeatureStore:
        """Feast on this store, imported when it is first asked for."""
        if self._feature_store is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._feature_store = open_feature_store(self.root, self._profile)
        return self._feature_store

    def spaces(self) -> dict[tuple[Entity, str], Space]:
        """Every space that vectors were written of."""
        return spaces.read(self.root)

    def write(
        self,
        embeddings: Embeddings,
        *,
        content_hashes: Sequence[str],
        event_timestamps: Sequence[datetime],
        entity: Entity = Entity.ITEM,
    ) -> int:
        """Append vectors; how many.

        Args:
            embeddings: The vectors; their space becomes a view of its own.
            content_hashes: Of the content that each vector was made from.
            event_timestamps: The moment from which each content is true.
            entity: Whom the vectors describe.

        Raises:
            StoreError: as many hashes and timestamps as vectors are needed, the latter with a
                time zone.
        """
        lengths = {len(embeddings), len(content_hashes), len(event_timestamps)}
        if len(lengths) > 1:
            raise StoreError(
                f"{len(embeddings)} vectors came with {len(content_hashes)} content hashes and "
                f"{len(event_timestamps)} event timestamps; each vector needs one of both"
            )
        if any(moment.tzinfo is None for moment in event_timestamps):
            raise StoreError("an event timestamp has no time zone; give it one, such as UTC")
        view = vector_view(embeddings.space, entity=entity)
        parts.define(self.root, view)
        spaces.add(self.root, embeddings.space, entity=entity)
        batches = _vector_batches(embeddings, content_hashes, event_timestamps, view.schema)
        return parts.append(self.root, view, batches)

    def content_hashes(self, space: Space, *, entity: Entity = Entity.ITEM) -> dict[str, str]:
        """The hash of the content that each id's latest vector was made from."""
        view = vector_view(space, entity=entity)
        if (entity, space.space_id) not in self.spaces():
            return {}
        rows = parts.latest(self.root, view, columns=[view.key, "content_hash"])
        return dict(zip(rows[0].to_pylist(), rows[1].to_pylist(), strict=True))

    def read(
        self, space: Space, *, entity: Entity = Entity.ITEM, as_of: datetime | None = None
    ) -> Embeddings:
        """Each id's latest vector, as of a moment (included), ordered by id.

        Raises:
            StoreError: no vector of the space was ever written; the message names those known.
        """
        known = self.spaces()
        if (entity, space.space_id) not in known:
            names = ", ".join(space_id for whom, space_id in sorted(known) if whom is entity)
            raise StoreError(
                f"the store holds no {entity} vectors of {space.space_id}, "
                f"only of: {names or 'nothing'}; embed them first"
            )
        view = vector_view(space, entity=entity)
        rows = parts.latest(self.root, view, columns=[view.key, "vector"], until=as_of)
        vectors_ND = _to_matrix(rows["vector"], space.dim)
        return Embeddings(space=space, item_ids=rows[view.key].to_pylist(), vectors_ND=vectors_ND)

    def write_profiles(self, items: Iterable[Item]) -> int:
        """Append the profiles that are new or changed; how many.

        A change whose catalog states no later time than before is true from now on.
        """
        view = profile_view()
        rows = parts.latest(self.root, view, columns=["item_id", "content_hash", "event_timestamp"])
        known = {row["item_id"]: row for row in rows.to_pylist()}
        return parts.append(self.root, view, _profile_batches(items, known, view.schema))

    def profiles(self) -> dict[str, Profile]:
        """Every item's latest profile, by id."""
        columns = ["item_id", "title", "description", "category", "attributes"]
        rows = parts.latest(self.root, profile_view(), columns=columns).to_pylist()
        return {
            row["item_id"]: Profile(**row | {"attributes": json.loads(row["attributes"])})
            for row in rows
        }

    def write_history(self, interactions: pa.Table) -> int:
        """Append the history rows that are new or changed; how many.

        Args:
            interactions: user_id, item_id, behavior, weight, timestamp, position; all events of
                each user that it names. Users it does not name keep what they have.

        Raises:
            StoreError: an event has neither a timestamp nor a position.
        """
        batches = windows.changed_windows(
            self.root, interactions, config=self._history, created=datetime.now(UTC)
        )
        return parts.append(self.root, history_view(), batches)

    def histories(self, pairs: Sequence[tuple[str, datetime]]) -> list[tuple[Interaction, ...]]:
        """Each user's last events strictly before the moment, oldest first, in the pairs' order.

        An event at the very moment is hidden: it may be the one to be predicted. A user without
        earlier events has an empty history.
        """
        found = self.feature_store.histories(pairs)
        return [found.get(pair, ()) for pair in pairs]

    def write_rejects(self, rejects: Iterable[Reject]) -> int:
        """Append rows that were set aside; how many."""
        now = datetime.now(UTC)
        rows = [
            {"source": one.source, "key": one.key, "reason": one.reason, "created": now}
            for one in rejects
        ]
        batches = pa.Table.from_pylist(rows, schema=REJECT_SCHEMA).to_batches()
        return parts.write_part(parts.new_path(self.root / "rejects"), REJECT_SCHEMA, batches)

    def rejects(self) -> list[Reject]:
        """The last reason for each row that was ever set aside, by source and key."""
        files = [str(path) for path in sorted((self.root / "rejects").glob("*.parquet"))]
        if not files:
            return []
        with parts.connect() as connection:
            rows = connection.execute(
                "SELECT source, key, arg_max(reason, created) FROM read_parquet($files) "
                "GROUP BY source, key ORDER BY source, key",
                {"files": files},
            ).fetchall()
        return [Reject(source=source, key=key, reason=reason) for source, key, reason in rows]

    def apply(self) -> list[str]:
        """Define in Feast what this store holds; the views' names."""
        return self.feature_store.apply(self.spaces())

    def materialize(self, until: datetime, *, is_full: bool = False) -> dict[str, int]:
        """Bring each id's latest row not after `until` online; the rows written, by view.

        Only what was appended since the last run is written, unless `is_full`.

        Raises:
            StoreError: a view was not applied, or its rows did not all arrive.
        """
        return materialize(
            self.root,
            all_views(self.spaces()),
            self.feature_store,
            until=until,
            is_full=is_full,
        )


def _vector_batches(
    embeddings: Embeddings,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    now = datetime.now(UTC)
    for start in range(0, len(embeddings), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        vectors_ND = np.ascontiguousarray(embeddings.vectors_ND[rows])
        num_rows = len(vectors_ND)
        ends = np.arange(num_rows + 1, dtype=np.int32) * embeddings.space.dim
        columns = [
            pa.array(embeddings.item_ids[rows], pa.string()),
            pa.array(event_timestamps[rows], INSTANT),
            pa.array([now] * num_rows, INSTANT),
            pa.array(content_hashes[rows], pa.string()),
            pa.ListArray.from_arrays(ends, pa.array(vectors_ND.reshape(-1))),
            pa.array([embeddings.space.space_id] * num_rows, pa.string()),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _to_matrix(column: pa.ChunkedArray, dim: int) -> NDArray[np.float32]:
    # Chunk by chunk: one Arrow list column ends at 2^31 floats.
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate([np.zeros(0, np.float32), *chunks])
    return flat.reshape(len(column), dim)


def _profile_batches(
    items: Iterable[Item], known: dict[str, dict[str, object]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    now = datetime.now(UTC)
    left = iter(items)
    while batch := list(islice(left, ROWS_PER_BATCH)):
        rows = []
        for item in batch:
            row = _profile_row(item, now)
            before = known.get(item.item_id)
            if before is not None:
                if before["content_hash"] == row["content_hash"]:
                    continue
                if item.content_time <= before["event_timestamp"]:  # type: ignore[operator]
                    row["event_timestamp"] = now
            known[item.item_id] = row
            rows.append(row)
        yield from pa.Table.from_pylist(rows, schema=schema).to_batches()


def _profile_row(item: Item, now: datetime) -> dict[str, object]:
    content = {
        "title": item.title,
        "description": item.description,
        "category": item.category,
        "attributes": json.dumps(dict(item.attributes), sort_keys=True, ensure_ascii=False),
    }
    return content | {
        "item_id": item.item_id,
        "event_timestamp": item.content_time,
        "created": now,
        "content_hash": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32],
    }
