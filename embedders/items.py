"""The catalog's nouns: items, what users did with them, and rows that had to be set aside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # the time of content whose catalog states none


class Modality(StrEnum):
    """A kind of content that an item can show. Sorted by name wherever an order is needed."""

    AUDIO = "audio"
    GRAPH = "graph"
    IMAGE = "image"
    SUMMARY = "summary"
    """What a model wrote of the others, embedded as text in a space of its own."""
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row of the catalog.

    `created_at` and `updated_at` are UTC; paths are absolute. `attributes` holds every further
    column of the catalog as text, ready to be shown or filtered by.
    """

    item_id: str
    title: str
    description: str | None = None
    category: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    image_path: Path | None = None
    audio_path: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    summary: str | None = None
    """What was written of it (`embedders.summaries`); no column of the catalog."""

    @property
    def content_time(self) -> datetime:
        """The moment from which the content is true: updated, else created, else the epoch."""
        return self.updated_at or self.created_at or EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One event: a user did something (`behavior`) with an item.

    `timestamp` is UTC; where only the order is known it is None and `position` counts from 0.
    `user_id` is empty for the inline history of a user that the store does not know.
    """

    item_id: str
    behavior: str
    user_id: str = ""
    timestamp: datetime | None = None
    weight: float | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One row that was set aside, and what to mend."""

    source: str
    """Where it was found: `items`, `interactions`, or a space's name."""
    key: str
    """The item id, or `row N` where the row has none."""
    reason: str
