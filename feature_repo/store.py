"""Vectors, texts, profiles and histories in; what was known at any moment out.

Parquet needs no Feast; `apply`, `materialize` and `histories` import it, which takes seconds.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.items import Interaction, Item, Reject
from embedders.known import DELETED, Known
from embedders.probes import Probes
from embedders.texts import Texts, TextSource
from embedders.vectors import Embeddings, Space
from feature_repo import (
    facts,
    parts,
    probes,
    profiles,
    pushes,
    rejects,
    spaces,
    text_rows,
    text_sources,
    tombstones,
    upkeep,
    vector_rows,
    windows,
)
from feature_repo import releases as release_file
from feature_repo.base import Entity, FeatureStore, HistoryConfig, Profile, StoreError, View
from feature_repo.compaction import Compacted
from feature_repo.known import stream_known
from feature_repo.materialize import Progress, materialize
from feature_repo.registry import open_feature_store
from feature_repo.tables import all_views, history_view, profile_view, text_view, vector_view


class Store:
    """Everything that is known of items and users, by the time since when it is true.

    Rows are only ever appended or merged, so several processes may write at once.
    """

    def __init__(
        self,
        root: Path,
        *,
        profile: Path | None = None,
        history: HistoryConfig | None = None,
        parts_url: str | None = None,
    ) -> None:
        """A store in the folder `root`, which need not exist yet.

        Args:
            root: Where the rows are kept.
            profile: A `feature_store.yaml`; None for the embedded one.
            history: How much of the past each history keeps.
            parts_url: A bucket for the parts, which `root` mirrors; None leaves it as it was.
        """
        self.root = root.absolute()
        facts.connect(self.root, parts_url, [spaces.FACTS, text_sources.FACTS])
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

    def close(self) -> None:
        """Let go of connections to servers; whatever is asked afterwards opens them again."""
        if self._feature_store is not None:
            self._feature_store.close()

    def spaces(self) -> dict[tuple[Entity, str], Space]:
        """Every space that vectors were written of."""
        return spaces.read(self.root)

    def text_sources(self) -> dict[str, TextSource]:
        """Every source that texts were written of, by its id."""
        return text_sources.read(self.root)

    def views(self) -> list[View]:
        """Every view: those of spaces and text sources by name, then profiles and histories."""
        return all_views(self.spaces(), self.text_sources())

    def write(
        self,
        embeddings: Embeddings,
        *,
        content_hashes: Sequence[str],
        event_timestamps: Sequence[datetime],
        entity: Entity = Entity.ITEM,
        imputed: Sequence[bool] | None = None,
    ) -> int:
        """Append vectors, and remember their space; how many. See `vector_rows.write`."""
        return vector_rows.write(
            self.root,
            embeddings,
            content_hashes=content_hashes,
            event_timestamps=event_timestamps,
            entity=entity,
            inferred=imputed,
        )

    def known(self, space: Space, *, entity: Entity = Entity.ITEM) -> Iterator[tuple[str, Known]]:
        """What is known of each id, ordered by id; of those that were taken away as well.

        Streamed, within DuckDB's limit of memory. Nothing for a space that was never written.
        """
        if (entity, space.space_id) not in self.spaces():
            return iter(())
        return stream_known(self.root, vector_view(space, entity=entity))

    def content_hashes(self, space: Space, *, entity: Entity = Entity.ITEM) -> dict[str, str]:
        """The hash of the content that each id's latest vector was made from."""
        known = ((row_id, one.content_hash) for row_id, one in self.known(space, entity=entity))
        return {row_id: content_hash for row_id, content_hash in known if content_hash != DELETED}

    def imputed(self, space: Space, *, entity: Entity = Entity.ITEM) -> set[str]:
        """The ids whose latest vector was inferred rather than made from content of their own."""
        return vector_rows.imputed(self.root, space, entity=entity)

    def read(
        self, space: Space, *, entity: Entity = Entity.ITEM, as_of: datetime | None = None
    ) -> Embeddings:
        """Each id's latest vector, as of a moment (included), ordered by id.

        Items that were taken away by then are left out.

        Raises:
            StoreError: no vector of the space was ever written; the message names those known.
        """
        return vector_rows.read(self.root, space, entity=entity, as_of=as_of)

    def vectors_as_of(
        self, space: Space, pairs: Sequence[tuple[str, datetime]], *, entity: Entity = Entity.ITEM
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Each id's latest vector as of its own moment (included), by Feast's point-in-time join.

        Args:
            space: Applied before.
            pairs: Ids and moments, with a time zone; a pair may be repeated.
            entity: Whom the vectors describe.

        Returns:
            The vectors in the pairs' order, [N, D], and which are present, [N]. An absent one is
            zero: unknown, not yet known at the moment, or taken away by then.

        Raises:
            StoreError: the space was not applied.
        """
        found = self.feature_store.vectors(vector_view(space, entity=entity), pairs)
        return vector_rows.aligned(found, pairs, dim=space.dim)

    def write_texts(
        self,
        texts: Texts,
        *,
        content_hashes: Sequence[str],
        event_timestamps: Sequence[datetime],
    ) -> int:
        """Append summaries by item or preferences by user; how many. See `text_rows.write`."""
        return text_rows.write(
            self.root, texts, content_hashes=content_hashes, event_timestamps=event_timestamps
        )

    def known_texts(self, source: TextSource) -> Iterator[tuple[str, Known]]:
        """As `known`, of a source's texts."""
        if source.source_id not in self.text_sources():
            return iter(())
        return stream_known(self.root, text_view(source))

    def stream_texts(
        self, source: TextSource, *, as_of: datetime | None = None
    ) -> Iterator[tuple[str, text_rows.WrittenText]]:
        """As `read`, of a source's texts, but few held at a time. See `text_rows.stream`."""
        return text_rows.stream(self.root, source, as_of=as_of)

    def read_texts(
        self, source: TextSource, *, as_of: datetime | None = None
    ) -> dict[str, text_rows.WrittenText]:
        """`stream_texts` as a whole."""
        return dict(self.stream_texts(source, as_of=as_of))

    def texts_as_of(
        self, source: TextSource, pairs: Sequence[tuple[str, datetime]]
    ) -> list[str | None]:
        """As `vectors_as_of`: each id's latest text as of its own moment (included), or None."""
        found = self.feature_store.texts(text_view(source), pairs)
        return [found.get(pair) for pair in pairs]

    def delete_texts(self, source: TextSource, row_ids: Iterable[str], *, at: datetime) -> int:
        """Take one source's texts of items, or users, away from a moment on; see `delete`."""
        return len(tombstones.bury(self.root, [text_view(source)], row_ids, at=at))

    def write_profiles(self, items: Iterable[Item]) -> int:
        """Append the profiles that are new or changed; how many. See `profiles.changed`.

        Items that are not given keep their profiles: see `delete`.
        """
        return parts.append(self.root, profile_view(), profiles.changed(self.root, items))

    def profiles(self) -> dict[str, Profile]:
        """Every item's latest profile, by id."""
        return {profile.item_id: profile for profile in profiles.read(self.root)}

    def profile_ids(self) -> Iterator[str]:
        """The ids of the items that have a profile and were not taken away, in order."""
        for batch in parts.stream_latest(self.root, profile_view(), columns=["item_id"]):
            yield from batch[0].to_pylist()

    def delete(self, item_ids: Iterable[str], *, at: datetime, space: Space | None = None) -> int:
        """Take items away from a moment on; how many of them there were.

        What was known of them before stays known as of then. Tombstones in every space, among the
        summaries and the profiles go online with the next materialization; an item that is
        written again comes back. What there is of users stays.

        Args:
            item_ids: Unknown ones, and those that are gone already, are passed over.
            at: With a time zone.
            space: Take away their vectors of this space alone; None for all there is of them.
        """
        every = [view for view in self.views() if view.entity is Entity.ITEM]
        views = every if space is None else [vector_view(space)]
        return len(tombstones.bury(self.root, views, item_ids, at=at))

    def write_probes(self, space: Space, found: Probes) -> None:
        """Keep what a space's encoder makes of the probe items; earlier ones are replaced."""
        probes.write(self.root, space, found)

    def probes(self, space: Space) -> Probes | None:
        """What a space's encoder made of the probe items; None where none were kept."""
        return probes.read(self.root, space)

    def write_history(self, interactions: pa.Table) -> int:
        """Append the history rows that are new or changed; how many. See `windows.changed_windows`.

        Users whom `interactions` does not name keep what they have.
        """
        now, config = datetime.now(UTC), self._history
        batches = windows.changed_windows(self.root, interactions, config=config, created=now)
        return parts.append(self.root, history_view(), batches)

    def push_events(self, interactions: pa.Table) -> int:
        """Add events to their users' histories, and bring these online at once; the rows appended.

        The same events again change nothing, so that a failed push can be repeated; nor does
        `write_history` of the whole log, if it has events of one time in this order. See
        `pushes.push`.
        """
        return pushes.push(self.root, self.feature_store, interactions, config=self._history)

    def histories(self, pairs: Sequence[tuple[str, datetime]]) -> list[tuple[Interaction, ...]]:
        """Each user's last events strictly before the moment, oldest first, in the pairs' order.

        An event at the very moment is hidden: it may be the one to be predicted. A user without
        earlier events has an empty history.
        """
        found = self.feature_store.histories(pairs)
        return [found.get(pair, ()) for pair in pairs]

    def compact(
        self,
        *,
        keep: timedelta | None = None,
        in_use: Collection[str] | None = None,
        is_dry_run: bool = False,
        now: datetime | None = None,
        on_progress: upkeep.Progress | None = None,
    ) -> list[Compacted]:
        """Merge small parts into few, and drop what nobody will ask for; what became of each view.

        Other processes may go on meanwhile. If it is killed the answers are the same; run it
        again. What each argument does is said in `upkeep.compact`; None as `now` takes the clock's.
        """
        return upkeep.compact(
            self.root,
            now=now or datetime.now(UTC),
            keep=keep,
            in_use=in_use,
            is_dry_run=is_dry_run,
            on_progress=on_progress,
        )

    def write_rejects(self, found: Iterable[Reject]) -> int:
        """Append rows that were set aside; how many."""
        return rejects.write(self.root, found)

    def rejects(self) -> list[Reject]:
        """The last reason for each row that was ever set aside, by source and key."""
        return rejects.read(self.root)

    def apply(
        self, *, releases: Mapping[str, Sequence[Space | TextSource]] | None = None
    ) -> list[str]:
        """Define in Feast what this store holds; the views' names.

        Args:
            releases: The spaces and text sources that each published release reads, by the
                release's name; each gets a feature service `rerank_<name>`, and those of other
                releases are taken away. None leaves the releases as they are.

        Raises:
            StoreError: a release reads what the store does not hold.
        """
        known, sources = self.spaces(), self.text_sources()
        if releases is not None:
            release_file.replace_checked(self.root, releases, spaces=known, sources=sources)
        return self.feature_store.apply(known, sources, release_file.read(self.root))

    def materialize(
        self,
        until: datetime,
        *,
        is_full: bool = False,
        views: Collection[str] | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, int]:
        """Bring each id's latest row not after `until` online; the rows written, by view.

        Only what was appended since the last run is written, unless `is_full`. Every row written
        is read back and compared, and a sample of the others. Given `views`, these alone, so that
        several processes may bring one each. See `materialize.materialize`.

        Raises:
            StoreError: a view is unknown, or as said there.
        """
        known = {view.name: view for view in self.views()}
        if absent := sorted(set(views or ()) - known.keys()):
            raise StoreError(f"no view {', '.join(absent)} in this store, only {', '.join(known)}")
        return materialize(
            self.root,
            [view for name, view in known.items() if views is None or name in views],
            self.feature_store,
            until=until,
            is_full=is_full,
            on_progress=on_progress,
        )
