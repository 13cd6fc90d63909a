"""The store's nouns, and the contract of the feature store behind it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from embedders.texts import TextSource
from embedders.vectors import Space

if TYPE_CHECKING:
    import pyarrow as pa


class StoreError(ValueError):
    """The store cannot do what was asked; the message says what to mend."""


class Unreachable(StoreError):
    """The online store does not answer, or has lost a whole table."""


class Entity(StrEnum):
    """Whom a row describes."""

    ITEM = "item"
    USER = "user"

    @property
    def join_key(self) -> str:
        """The column that holds the id."""
        return f"{self}_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """A cache at one moment."""

    num_hits: int = 0
    """How often it held what it was asked for, since its making."""
    num_misses: int = 0
    num_entries: int = 0
    num_bytes: int = 0

    def __add__(self, other: "CacheCounts") -> "CacheCounts":
        """Of both caches together."""
        return CacheCounts(
            num_hits=self.num_hits + other.num_hits,
            num_misses=self.num_misses + other.num_misses,
            num_entries=self.num_entries + other.num_entries,
            num_bytes=self.num_bytes + other.num_bytes,
        )


Spaces = Mapping[tuple[Entity, str], Space]
"""Every space written, by whom it describes and its id."""

Sources = Mapping[str, TextSource]
"""Every source that texts were written of, by its id."""

Releases = Mapping[str, Sequence[str]]
"""The ids of the spaces and text sources that each published release reads, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is shown of an item: the part of it that is not a vector."""

    item_id: str
    title: str
    description: str | None = None
    category: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """How much of the past is kept with each event."""

    limit: int = 50
    """A user's history is their last `limit` events; earlier ones are not served."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"a history keeps at least one event, got a limit of {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One Feast view and the parquet rows behind it."""

    name: str
    entity: Entity
    schema: "pa.Schema"
    features: tuple[str, ...]
    """The columns that Feast serves. The others stay in the parquet rows: an online store reads
    all features of a row whatever was asked for, so a vector travels alone."""
    space: Space | None = None
    """Whose vectors the rows hold, if any."""
    source: TextSource | None = None
    """Whose texts the rows hold, if any."""

    @property
    def key(self) -> str:
        """The column that holds the id."""
        return self.entity.join_key

    @property
    def origin_id(self) -> str | None:
        """The id of the space or source, by which a release names what it reads.

        None for profiles and histories: every release reads them.
        """
        if self.source:
            return self.source.source_id
        return self.space.space_id if self.space else None


class FeatureStore(ABC):
    """What the room asks of a feature store; kept apart so that only one leaf imports Feast."""

    online_id: str
    """Names the online store: whatever was written to another one is not in this one."""

    @abstractmethod
    def apply(self, spaces: Spaces, sources: Sources, releases: Releases) -> list[str]:
        """Define the views of these spaces and sources, the profiles' and the histories'; names.

        What was defined from this store before and is no longer named is taken away, the online
        rows of such views too; those of other views stay.

        Raises:
            StoreError: no space and no source is named although some were defined: the wrong or
                an empty folder.
        """

    @abstractmethod
    def write_online(self, view: str, rows: "pa.Table") -> list[str]:
        """Put rows (one for each id) online; whatever the id's row was before is replaced.

        Returns:
            As `differing`, read back at once: the ids whose row did not arrive, or was replaced
            by another writer in the meantime.

        Raises:
            StoreError: the view was not applied, or the online store does not answer.
        """

    @abstractmethod
    def push(self, view: str, rows: "pa.Table") -> None:
        """Put rows (one for each id) online at once; no materialization puts older ones there.

        Raises:
            StoreError: the view was not applied or takes no pushes, or the online store does not
                answer.
        """

    @abstractmethod
    def differing(self, view: str, rows: "pa.Table") -> list[str]:
        """The ids whose online row is absent or another than the given one, in the rows' order.

        A given row whose features are all null is the same as none.

        Raises:
            StoreError: the view was not applied, or the online store does not answer.
        """

    @abstractmethod
    def record(self, view: str, *, start: datetime, end: datetime) -> None:
        """Note in the registry that the rows of this interval are online."""

    @abstractmethod
    def read_online(self, view: str, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """The stored value of each feature, as protobuf, in the ids' order.

        None where the id is unknown, or was taken away: a row of nulls.

        Raises:
            StoreError: the view was not applied, or the online store does not answer.
        """

    @abstractmethod
    def read_online_vectors(
        self, view: str, ids: Sequence[str], *, dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The stored vectors in the ids' order, [N, D], and which are present, [N].

        The vector of an absent id is zero; a row of nulls is as absent as no row. Safe to call
        from several threads at once.

        Raises:
            StoreError: the view was not applied, or a stored vector has another length.
        """

    @abstractmethod
    def histories(
        self, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], tuple[Interaction, ...]]:
        """Each user's last events strictly before the moment; users without any are left out."""

    @abstractmethod
    def vectors(
        self, view: View, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], NDArray[np.float32]]:
        """Each id's latest vector of a view, [D], not after the moment.

        Ids without one by then, or taken away by then, are left out.

        Raises:
            StoreError: the view was not applied.
        """

    @abstractmethod
    def texts(
        self, view: View, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], str]:
        """Each id's latest text of a view, not after the moment.

        Ids without one by then, or taken away by then, are left out.

        Raises:
            StoreError: the view was not applied.
        """

    @abstractmethod
    def hasten(self) -> None:
        """From now on fail soon where the online store does not answer: for whoever serves.

        Where nothing else is said of it in the profile, Redis has a quarter of a second for each
        answer, and is tried twice.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection; whatever is asked afterwards opens one again."""
