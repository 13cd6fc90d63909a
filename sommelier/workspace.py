"""Settings in, the things that every stage works on out, each opened when it is first asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embedders import catalog, tables
from embedders.items import EPOCH, Interaction, Item, Modality
from embedders.known import joined
from embedders.texts import TextKind, TextSource
from embedders.vectors import Embeddings, Space
from feature_repo.base import Entity, HistoryConfig
from feature_repo.store import Store
from retrieval import registry
from retrieval.composed import query_encoder
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.fill import filled
from retrieval.fusion import Fusion
from retrieval.pooled import PoolingConfig
from retrieval.popularity import popularity
from retrieval.retriever import Retriever
from sommelier.ordered_catalog import ordered
from sommelier.settings import Settings
from sommelier.state import State, digest
from sommelier.timeline import Timeline, timeline

if TYPE_CHECKING:
    from retrieval.sequence import BoundSequence, SequenceEncoder

SEQUENCE_FILE = "sequence.safetensors"  # among the models
EMBED_FIRST = "run `sommelier embed` first"
SUMMARIZE_FIRST = "run `sommelier summarize` first"


class Workspace:
    """One catalog, its store, and everything that is made of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(settings.paths.workspace)

    @cached_property
    def catalog(self) -> catalog.Catalog:
        """The catalog, read and checked, on the clock of the split."""
        settings = self.settings
        read = catalog.read(settings.catalog.path, columns=settings.catalog.columns)
        return ordered(read, settings.time, settings.target)

    @cached_property
    def store(self) -> Store:
        """The feature store."""
        config = self.settings.store
        history = HistoryConfig(limit=config.history_limit)
        return Store(
            config.root, profile=config.profile, history=history, parts_url=config.parts_url
        )

    def close(self) -> None:
        """Let go of what the store holds open."""
        if "store" in self.__dict__:  # else it was never asked for
            self.store.close()

    @cached_property
    def timeline(self) -> Timeline:
        """What may be learned from when."""
        return timeline(self.catalog.interactions, self.settings.time)

    @cached_property
    def timed_interactions(self) -> pa.Table:
        """The events that have a time: only they can be placed before or after a cut."""
        events = self.catalog.interactions
        return events.filter(events["timestamp"].is_valid())

    @property
    def item_ids(self) -> list[str]:
        """The catalog's good items."""
        ids: list[str] = self.catalog.good_items["item_id"].to_pylist()
        return ids

    @cached_property
    def created_at(self) -> dict[str, datetime]:
        """When items came to be, for those of which the catalog says so."""
        return {
            item.item_id: item.created_at
            for item in self.catalog.items()
            if item.created_at is not None
        }

    @cached_property
    def known_items(self) -> frozenset[str]:
        """The items that were there before the cut, and those that do not say since when."""
        cut, created_at = self.timeline.cut, self.created_at
        return frozenset(one for one in self.item_ids if created_at.get(one, EPOCH) < cut)

    def spaces(self) -> tuple[Space, ...]:
        """The spaces of the last embedding, by modality.

        Raises:
            ValueError: nothing was embedded yet.
        """
        facts = self.state.read("embed").get("spaces")
        if not facts:
            raise ValueError(f"nothing is embedded in {self.settings.store.root}: {EMBED_FIRST}")
        return tuple(space_of(one) for one in facts)

    @property
    def summary_source(self) -> TextSource | None:
        """Who wrote the items' summaries; None where they are not enabled, or not written yet."""
        return self._source(TextKind.SUMMARY) if self.settings.summaries.enabled else None

    @property
    def preference_source(self) -> TextSource | None:
        """Who wrote the users' preferences; None where they are not enabled, or not written yet."""
        return self._source(TextKind.PREFERENCE) if self.settings.preferences.enabled else None

    def _source(self, kind: TextKind) -> TextSource | None:
        facts = self.state.read("summarize").get(kind)
        return None if facts is None else source_of(facts)

    @cached_property
    def summaries(self) -> Mapping[str, str]:
        """Every item's summary, by its id; empty where there are none."""
        source = self.summary_source
        if source is None:
            return {}
        return {item_id: one.text for item_id, one in self.store.read_texts(source).items()}

    def items_as_read(self, space: Space) -> Iterator[Item]:
        """The catalog's items by id, with whatever else the encoder of a space reads of them.

        Streamed, with few of them held at a time.
        """
        source = self.summary_source
        if space.modality is not Modality.SUMMARY or source is None:
            yield from self.catalog.items()
            return
        for _, item, written in joined(self.catalog.items(), self.store.stream_texts(source)):
            if item is not None:
                yield item if written is None else replace(item, summary=written.text)

    @cached_property
    def content_vectors(self) -> ItemVectors:
        """The modalities' blocks, as the store holds them now."""
        return concatenate(
            (self.store.read(space) for space in self.spaces()),
            item_ids=self.item_ids,
            fitted_on=self.known_items,
        )

    @cached_property
    def sequence(self) -> "SequenceEncoder | None":
        """The trained network over histories; None where there is none of these vectors.

        Raises:
            UnusableIndex: its file is missing or damaged.
        """
        if not self.settings.sequence.enabled or not self.state.read("sequence"):
            return None
        found = registry.load_sequence(self.settings.paths.models / SEQUENCE_FILE)
        return found if set(found.spaces) <= set(self.content_vectors.spaces) else None

    @cached_property
    def item_vectors(self) -> ItemVectors:
        """All items' vectors side by side, the network's too where one is trained."""
        if self.sequence is None:
            return self.content_vectors
        return self.content_vectors.joined(self.sequence.items(self.content_vectors))

    @cached_property
    def query_vectors(self) -> "BoundSequence | None":
        """What the network makes of queries; None where none is trained."""
        return None if self.sequence is None else self.sequence.bound(self.item_vectors)

    def forget_vectors(self) -> None:
        """Look the network and what it makes up again, after it was trained."""
        for name in ("sequence", "item_vectors", "query_vectors", "vectors_key"):
            self.__dict__.pop(name, None)

    def note_source(self, source: TextSource) -> None:
        """Read the texts of this source from now on: all that can be written of it is."""
        self.state.write("summarize", self.state.read("summarize") | {source.kind: asdict(source)})
        for name in ("summaries", "_has_views"):
            self.__dict__.pop(name, None)

    @cached_property
    def user_vectors(self) -> Embeddings | None:
        """The users' own graph vectors; None where no graph was trained."""
        written = self.store.spaces()
        for space in self.spaces():
            if (Entity.USER, space.space_id) in written:
                return self.store.read(space, entity=Entity.USER)
        return None

    @cached_property
    def vectors_key(self) -> str:
        """Changes when any item's or user's vector does."""
        items, users = self.item_vectors, self.user_vectors
        facts: list[object] = [items.item_ids, items.spaces, items.vectors_ND.tobytes()]
        if users is not None:
            facts += [tuple(users.item_ids), users.vectors_ND.tobytes()]
        return digest(*facts)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Every item's title."""
        return {item_id: one.title for item_id, one in self.store.profiles().items()}

    @cached_property
    def _has_views(self) -> bool:
        return bool(self.store.apply())

    def histories(self, pairs: Sequence[tuple[str, datetime]]) -> list[tuple[Interaction, ...]]:
        """Each user's last events strictly before a moment; Feast's views are defined first."""
        assert self._has_views
        return self.store.histories(pairs)

    def texts_as_of(
        self, source: TextSource, pairs: Sequence[tuple[str, datetime]]
    ) -> list[str | None]:
        """What a source had written of each id by a moment; Feast's views are defined first."""
        assert self._has_views
        return self.store.texts_as_of(source, pairs)

    def retriever(
        self, pooling: PoolingConfig, *, until: datetime, fusion: Fusion | None = None
    ) -> Retriever:
        """A retriever in memory that knows nothing of events from `until` on.

        It searches exactly, whatever the index that is served: what is learned from its answers
        should not depend on what an index misses.
        """
        items = self.item_vectors
        index = filled(items, kind="exact")
        encoder = query_encoder(
            items,
            pooling=pooling,
            user_vectors=self.user_vectors,
            as_of=until,
            sequence=self.query_vectors,
        )
        counts = popularity(self.catalog.interactions, until=until)
        return Retriever(index, items, encoder, popularity=counts, fusion=fusion)


def space_facts(space: Space) -> dict[str, object]:
    """A space as JSON holds it."""
    return asdict(space)


def space_of(facts: Mapping[str, Any]) -> Space:
    """The space of an item's modality whose facts `space_facts` gave."""
    return Space(**{**facts, "modality": Modality(facts["modality"])})


def source_of(facts: Mapping[str, Any]) -> TextSource:
    """The source of texts whose facts were noted."""
    return TextSource(**{**facts, "kind": TextKind(facts["kind"])})


def events_key(interactions: pa.Table) -> str:
    """Changes when any event does; the rows' order and how Arrow holds them say nothing."""
    columns = ", ".join(interactions.column_names)
    with tables.connect() as db:
        db.register("events", interactions)
        counted = f"SELECT count(*), sum(hash({columns})) FROM events"  # nosec B608
        row = db.execute(counted).fetchone()
    return digest(tuple(interactions.column_names), row)


def existing(path: str | Path, *, repair: str) -> Path:
    """The path, if something is there.

    Raises:
        ValueError: nothing is.
    """
    found = Path(path)
    if not found.exists():
        raise ValueError(f"{found} is missing: {repair}")
    return found
