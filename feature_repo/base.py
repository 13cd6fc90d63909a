"""The store's nouns, and the contract of the feature store behind it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from embedders.items import Interaction
from embedders.vectors import Space

if TYPE_CHECKING:
    import pyarrow as pa


class StoreError(ValueError):
    """The store cannot do what was asked; the message says what to mend."""


class Entity(StrEnum):
    """Whom a row describes."""

    ITEM = "item"
    USER = "user"

    @property
    def join_key(self) -> str:
        """The column that holds the id."""
        return f"{self}_id"


Spaces = Mapping[tuple[Entity, str], Space]
"""Every space written, by whom it describes and its id."""


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


class FeatureStore(ABC):
    """What the room asks of a feature store; kept apart so that only one leaf imports Feast."""

    online_id: str
    """Names the online store: whatever was written to another one is not in this one."""

    @abstractmethod
    def apply(self, spaces: Spaces) -> list[str]:
        """Define the views of these spaces, the profiles' and the histories'; the views' names."""

    @abstractmethod
    def write_online(self, view: str, rows: "pa.Table") -> None:
        """Put rows (one for each id) online; an id's earlier row is replaced.

        Raises:
            StoreError: the view was not applied.
        """

    @abstractmethod
    def record(self, view: str, *, start: datetime, end: datetime) -> None:
        """Note in the registry that the rows of this interval are online."""

    @abstractmethod
    def read_online(self, view: str, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """The stored value of each feature, as protobuf, in the ids' order; None where unknown.

        Raises:
            StoreError: the view was not applied.
        """

    @abstractmethod
    def histories(
        self, pairs: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], tuple[Interaction, ...]]:
        """Each user's last events strictly before the moment; users without any are left out."""
