"""Rows in, Feast's online and historical features out: the contract of `base.py` on Feast.

Rows go through Feast's providers, so that any online store that Feast knows will do.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
from feast.errors import FeatureViewNotFoundException
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

from embedders.items import Interaction
from feature_repo import repo_config, views
from feature_repo.atomic import exclusively
from feature_repo.base import FeatureStore, Spaces, StoreError
from feature_repo.histories import to_interactions
from feature_repo.tables import HISTORY_COLUMNS, USER_HISTORY

IDS_PER_READ = 5_000  # SQLite refuses more than 32,766 parameters
# Each pair meets every row of its user before one is chosen, and a row holds four lists: more
# pairs cost memory, fewer cost time, since every join reads all parts.
PAIRS_PER_JOIN = 10_000


class FeastStore(FeatureStore):
    """One Feast project."""

    def __init__(self, root: Path, *, profile: Path | None = None) -> None:
        settings = repo_config.load(profile or repo_config.EMBEDDED, root=root)
        self._root = root
        self._feast = feast.FeatureStore(config=RepoConfig(**settings, repo_path=root.absolute()))
        self._views: dict[str, feast.FeatureView] = {}
        online = json.dumps([settings["project"], settings.get("online_store")], sort_keys=True)
        self.online_id = hashlib.sha256(online.encode()).hexdigest()[:16]

    def apply(self, spaces: Spaces) -> list[str]:
        objects = views.build(self._root, spaces)
        with self._registry_lock():
            self._feast.apply(objects)
        self._views.clear()
        return [found.name for found in objects if isinstance(found, feast.FeatureView)]

    def write_online(self, view: str, rows: pa.Table) -> None:
        applied = self._view(view)
        self._feast._get_provider().ingest_df(applied, rows.to_pandas())

    def record(self, view: str, *, start: datetime, end: datetime) -> None:
        with self._registry_lock():
            self._feast.registry.apply_materialization(
                self._view(view), self._feast.project, start, end
            )

    def read_online(self, view: str, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        applied = self._view(view)
        provider = self._feast._get_provider()
        join_keys = [column.name for column in applied.entity_columns]
        rows: list[Mapping[str, Any] | None] = []
        for start in range(0, len(ids), IDS_PER_READ):
            keys = [
                EntityKey(join_keys=join_keys, entity_values=[Value(string_val=one)])
                for one in ids[start : start + IDS_PER_READ]
            ]
            found = provider.online_read(self._feast.config, applied, keys)
            rows.extend(values for _, values in found)
        return rows

    def histories(
        self, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], tuple[Interaction, ...]]:
        distinct = sorted(set(pairs))
        found: dict[tuple[str, datetime], tuple[Interaction, ...]] = {}
        for start in range(0, len(distinct), PAIRS_PER_JOIN):
            found.update(self._join(distinct[start : start + PAIRS_PER_JOIN]))
        return found

    def _join(
        self, pairs: Sequence[tuple[str, datetime]]
    ) -> Iterator[tuple[tuple[str, datetime], tuple[Interaction, ...]]]:
        self._view(USER_HISTORY)
        # Feast's join admits rows of the very moment, and the event to be predicted has it.
        before = [moment - timedelta(microseconds=1) for _, moment in pairs]
        asked = pd.DataFrame(
            {
                "user_id": [user_id for user_id, _ in pairs],
                "event_timestamp": pd.Series(before, dtype="datetime64[us, UTC]"),
                "pair": range(len(pairs)),  # the answer comes in any order
            }
        )
        features = [f"{USER_HISTORY}:{name}" for name in HISTORY_COLUMNS]
        answer = self._feast.get_historical_features(asked, features).to_arrow()
        for row in answer.select(["pair", *HISTORY_COLUMNS]).to_pylist():
            if row["item_ids"] is not None:
                user_id, moment = pairs[row.pop("pair")]
                yield (user_id, moment), to_interactions(user_id, **row)

    def _registry_lock(self) -> AbstractContextManager[None]:
        """Against a second writer: a registry in a file is read, changed and written whole."""
        return exclusively(self._root / ".registry.lock")

    def _view(self, name: str) -> feast.FeatureView:
        if name not in self._views:
            try:
                self._views[name] = self._feast.get_feature_view(name)
            except (FeatureViewNotFoundException, FileNotFoundError) as error:
                raise StoreError(
                    f"the view {name} is not defined; apply the store first"
                ) from error
        return self._views[name]
