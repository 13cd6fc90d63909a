"""Rows in, Feast's online and historical features out: the contract of `base.py` on Feast.

Rows go through Feast's providers, so that any online store that Feast knows will do. A connection
that was lost is opened again: Feast itself keeps a dead one to PostgreSQL for as long as it lives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import feast
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import FeatureViewNotFoundException
from feast.infra.provider import Provider
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.repo_config import RepoConfig
from numpy.typing import NDArray
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedders.items import Interaction
from feature_repo import ledger, mirror, parts, repo_config, values, views
from feature_repo.atomic import exclusively
from feature_repo.base import FeatureStore, Releases, Sources, Spaces, StoreError, Unreachable, View
from feature_repo.histories import to_interactions
from feature_repo.online_vectors import FEATURE, OnlineVectors
from feature_repo.tables import EVENT_TIME, HISTORY_COLUMNS, history_view

IDS_PER_READ = 5_000  # SQLite refuses more than 32,766 parameters
# Each pair meets every row of its user before one is chosen, and a row holds four lists: more
# pairs cost memory, fewer cost time, since every join reads all parts.
PAIRS_PER_JOIN = 10_000
RECONNECTING = {"redis"}  # its client tries again by itself; another round only takes longer
HASTE_S = 0.25  # what Redis has for an answer where requests wait for it

T = TypeVar("T")


def is_of_vectors(view: feast.FeatureView) -> bool:
    """Whether a view serves one vector for each id and nothing else."""
    return [field.name for field in view.features] == [FEATURE]


class FeastStore(FeatureStore):
    """One Feast project."""

    def __init__(self, root: Path, *, profile: Path | None = None) -> None:
        settings = repo_config.load(profile or repo_config.EMBEDDED, root=root)
        self.online_id = repo_config.online_id(settings)
        online = settings.get("online_store")
        if isinstance(online, dict) and online.get("type") == "redis":
            # Feast would pass over rows that are not later than the stored ones: content embedded
            # again under the same moment, repaired rows, tombstones. Which row is the latest was
            # decided from the parts, by event timestamp and creation.
            online["skip_dedup"] = True
        self._root = root
        self._feast = feast.FeatureStore(config=RepoConfig(**settings, repo_path=root.absolute()))
        self._views: dict[str, feast.FeatureView] = {}
        self._online_vectors = OnlineVectors(self._feast)
        self._is_hasty = False

    def apply(self, spaces: Spaces, sources: Sources, releases: Releases) -> list[str]:
        objects = views.build(self._root, spaces, sources, releases)
        names = [found.name for found in objects if isinstance(found, feast.FeatureView)]
        with self._registry_lock():
            gone = views.no_longer_there(self._feast, self._root, objects)
            self._feast.apply(objects, objects_to_delete=gone, partial=False)
        ledger.forget(self._root, self.online_id, kept=set(names))
        self._views.clear()
        return names

    def write_online(self, view: str, rows: pa.Table) -> list[str]:
        applied = self._view(view)
        data = self._to_rows(applied, rows)
        self._online(
            lambda provider: provider.online_write_batch(self._feast.config, applied, data, None)
        )
        if is_of_vectors(applied):
            return self._differing_vectors(applied, rows)
        return self._differing(applied, data)

    def push(self, view: str, rows: pa.Table) -> None:
        if self._view(view).stream_source is None:
            raise StoreError(f"the view {view} takes no pushes; write it and materialize")
        if not rows.num_rows:
            return
        ledger.reach(self._root, self.online_id, view, until=pc.max(rows[EVENT_TIME]).as_py())
        # Another row than this one is that of a later push; none at all is a loss.
        differing = self.write_online(view, rows)
        absent = [
            one
            for one, row in zip(differing, self.read_online(view, differing), strict=True)
            if row is None
        ]
        if absent:
            raise StoreError(
                f"{view}: {len(absent)} pushed rows are not online, the first is that of "
                f"{absent[0]!r}; has the online store room for them?"
            )

    def differing(self, view: str, rows: pa.Table) -> list[str]:
        applied = self._view(view)
        return self._differing(applied, self._to_rows(applied, rows))

    def _differing(self, view: feast.FeatureView, expected: Sequence[values.Row]) -> list[str]:
        stored = self._read(view, [key for key, *_ in expected])
        return [
            key.entity_values[0].string_val
            for (key, wanted, *_), found in zip(expected, stored, strict=True)
            if not values.are_equal(found, wanted)
        ]

    def _differing_vectors(self, view: feast.FeatureView, rows: pa.Table) -> list[str]:
        """As `_differing`, for all at once: one protobuf for each number read would cost most."""
        ids = rows[view.entity_columns[0].name].to_pylist()
        vectors, is_wanted_N = rows[FEATURE], rows[FEATURE].is_valid().to_numpy()
        dim = view.features[0].vector_length
        found_ND, is_found_N = self._online(lambda _: self._online_vectors.read(view, ids, dim=dim))
        wanted_ND = np.zeros_like(found_ND)
        wanted_ND[is_wanted_N] = (
            vectors.drop_null().combine_chunks().flatten().to_numpy().reshape(-1, dim)
        )
        is_equal_N = (found_ND.view(np.uint32) == wanted_ND.view(np.uint32)).all(axis=1)
        differs_N = ~is_equal_N | (is_found_N != is_wanted_N)
        return [ids[n] for n in np.flatnonzero(differs_N)]

    def record(self, view: str, *, start: datetime, end: datetime) -> None:
        with self._registry_lock():
            self._feast.registry.apply_materialization(
                self._view(view), self._feast.project, start, end
            )

    def read_online(self, view: str, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        applied = self._view(view)
        stored = self._read(applied, values.keys(applied.entity_columns[0].name, ids))
        return [None if values.is_absent(row) else row for row in stored]

    def read_online_vectors(
        self, view: str, ids: Sequence[str], *, dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        applied = self._view(view)
        return self._online(lambda _: self._online_vectors.read(applied, ids, dim=dim))

    def histories(
        self, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], tuple[Interaction, ...]]:
        # Feast's join admits rows of the very moment, and the event to be predicted has it.
        tick = timedelta(microseconds=1)
        answers = self._as_of(history_view(), [(one, moment - tick) for one, moment in pairs])
        return {
            (user_id, moment + tick): to_interactions(
                user_id, **{name: row[name].as_py() for name in HISTORY_COLUMNS}
            )
            for (user_id, moment), row in answers
        }

    def vectors(
        self, view: View, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], NDArray[np.float32]]:
        return {
            pair: row["vector"].values.to_numpy().astype(np.float32)
            for pair, row in self._as_of(view, pairs)
        }

    def texts(
        self, view: View, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], str]:
        return {pair: row["text"].as_py() for pair, row in self._as_of(view, pairs)}

    def _as_of(
        self, view: View, pairs: Sequence[tuple[str, datetime]]
    ) -> Iterator[tuple[tuple[str, datetime], Mapping[str, Any]]]:
        """Each distinct pair's latest row not after its moment, as Arrow's scalars.

        Ids without any row by then, or taken away by then, are left out.
        """
        self._view(view.name)
        folder = parts.folder(self._root, view)
        mirror.pull(self._root, folder)
        distinct = sorted(set(pairs))
        for start in range(0, len(distinct), PAIRS_PER_JOIN):
            some = distinct[start : start + PAIRS_PER_JOIN]
            answer = parts.retried(folder, partial(self._join, view, some))
            for n, *row in zip(*(answer[name] for name in ("pair", *view.features)), strict=True):
                if row[0].is_valid:
                    yield some[n.as_py()], dict(zip(view.features, row, strict=True))

    def _join(self, view: View, pairs: Sequence[tuple[str, datetime]]) -> pa.Table:
        moments = pd.Series([moment for _, moment in pairs], dtype="datetime64[us, UTC]")
        asked = pd.DataFrame(
            {
                view.key: [row_id for row_id, _ in pairs],
                EVENT_TIME: moments,
                "pair": range(len(pairs)),  # the answer comes in any order
            }
        )
        features = [f"{view.name}:{name}" for name in view.features]
        return self._feast.get_historical_features(asked, features).to_arrow()

    def hasten(self) -> None:
        self._is_hasty = True
        self._hang_up()

    def close(self) -> None:
        self._online_vectors.close()
        self._hang_up()
        if self._feast.config.registry.registry_type == "sql":
            registry: Any = self._feast.registry
            registry.write_engine.dispose()
            registry.read_engine.dispose()

    def _hang_up(self) -> None:
        """Close what the online store holds open; the next call opens it again.

        Feast has no method for it, and whatever was not closed warns when it is collected.
        """
        provider, self._feast._provider = self._feast._provider, None
        online = None if provider is None else provider.online_store
        for name in ("_client", "_conn", "_conn_pool"):
            if (held := getattr(online, name, None)) is not None:
                held.close()

    def _to_rows(self, view: feast.FeatureView, rows: pa.Table) -> list[values.Row]:
        features = [field.name for field in view.features]
        return values.rows(rows, join_key=view.entity_columns[0].name, features=features)

    def _read(
        self, view: feast.FeatureView, keys: Sequence[EntityKey]
    ) -> list[Mapping[str, Any] | None]:
        rows: list[Mapping[str, Any] | None] = []
        for start in range(0, len(keys), IDS_PER_READ):
            some = [*keys[start : start + IDS_PER_READ]]
            found = self._online(
                partial(_read_rows, config=self._feast.config, view=view, keys=some)
            )
            rows.extend(found)
        return rows

    def _online(self, work: Callable[[Provider], T]) -> T:
        """Work on the online store; once more on a new connection where the first one failed."""
        kind = self._feast.config.online_store.type
        if kind not in RECONNECTING:
            try:
                return work(self._provider())
            except StoreError:
                raise
            except Exception:  # each online store's client has errors of its own
                self._hang_up()
        try:
            return work(self._provider())
        except StoreError:
            raise
        except Exception as error:
            raise Unreachable(
                f"the online store ({kind}) failed: {str(error).strip()}; see that it runs, then "
                "apply the store and materialize"
            ) from error

    def _provider(self) -> Provider:
        provider = self._feast._get_provider()
        online: Any = provider.online_store
        config = self._feast.config.online_store
        if self._is_hasty and config.type == "redis" and online._client is None:
            _hasten(online._get_client(config))
        return provider

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


def _hasten(client: Any) -> None:
    """Redis's own client would try for some ten seconds."""
    client.set_retry(Retry(NoBackoff(), 1))
    options = client.get_connection_kwargs()
    for name in ("socket_timeout", "socket_connect_timeout"):
        if options.get(name) is None:
            options[name] = HASTE_S


def _read_rows(
    provider: Provider, *, config: RepoConfig, view: feast.FeatureView, keys: list[EntityKey]
) -> list[Mapping[str, Any] | None]:
    # Asked for by name, as Feast's PostgreSQL store fails otherwise; in a list of its own, as its
    # Redis store adds to it.
    features = [field.name for field in view.features]
    return [row for _, row in provider.online_read(config, view, keys, features)]
