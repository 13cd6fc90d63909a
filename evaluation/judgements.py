"""What users really did after the cut: the truth that rankings are measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One user's truth: everything they chose after `as_of`, and nothing seen before it."""

    user_id: str
    as_of: datetime
    item_ids: frozenset[str]
    """What the catalog holds of it: the truth of every metric."""
    unknown_item_ids: frozenset[str] = frozenset()
    """What the catalog does not hold of it. No metric counts it; the failure ledger does."""


def drawn(judgements: Sequence[Judgement], limit: int | None, seed: int) -> frozenset[str]:
    """At most `limit` users, drawn evenly; equal seeds draw equal users."""
    users = [one.user_id for one in judgements]
    if limit is None or limit >= len(users):
        return frozenset(users)
    drawn = np.random.default_rng(seed).choice(len(users), size=limit, replace=False)
    return frozenset(users[n] for n in drawn.tolist())
