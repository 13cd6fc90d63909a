"""What is asked of retrieval, and what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from embedders.items import Interaction
from retrieval.filters import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Whose next item is sought.

    `history` is None where the store knows the user's history; given, it is used instead (oldest
    event first), so that unknown users are answered too. `as_of` hides every later event.
    """

    user_id: str = ""
    history: tuple[Interaction, ...] | None = None
    recent: tuple[Interaction, ...] = ()
    """What happened after the stored history, for whoever looks that up to read behind it."""
    as_of: datetime | None = None
    exclude_seen: bool = True
    exclude: frozenset[str] = frozenset()
    modalities: frozenset[str] | None = None
    """Only these blocks are searched, by name; None means all. Leaving one out is an ablation."""
    filters: Filter | None = None
    """Which items may be answered with at all; None means every item."""
    weights: Mapping[str, float] | None = None
    """How much these blocks count for this query alone; the others count as they always do."""
    behavior: str | None = None
    """The behavior that is asked about, for a ranker that tells them apart; None means any choice.
    Retrieval takes no notice of it."""
    text: str | None = None
    """Who asks or what for, in words, for a ranker that reads them before the history. Retrieval
    takes no notice of it."""
    preference: str | None = None
    """What was written of the user's preference as of the question; None where the store is to be
    asked, and empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An item that retrieval proposes. Equal scores fall by item id."""

    item_id: str
    score: float
    rank: int
    """From 1."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """The cosine between the query and the item in each block, by its name (a modality's, or
    "sequence"); absent where either is absent."""
    support: Mapping[str, float] = field(default_factory=dict)
    """The item's mean cosine with the history's single items: the evidence times how far the
    history agrees with itself. Low where a user does not seem to care for the modality. Only of
    blocks in which histories are pooled."""

    @property
    def found_by(self) -> tuple[str, ...]:
        """The blocks in which the item could be compared with the query, by name."""
        return tuple(sorted(self.evidence))
