"""What users really did after the cut: the truth that rankings are measured against."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One user's truth: everything they chose after `as_of`, and nothing seen before it."""

    user_id: str
    as_of: datetime
    item_ids: frozenset[str]
    """What the catalog holds of it: the truth of every metric."""
    unknown_item_ids: frozenset[str] = frozenset()
    """What the catalog does not hold of it. No metric counts it; the failure ledger does."""
