"""The noun of the truth."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from evaluation import Judgement


def test_a_judgement_cannot_be_changed_after_the_fact():
    judgement = Judgement(
        user_id="u", as_of=datetime(2024, 1, 1, tzinfo=UTC), item_ids=frozenset({"a"})
    )
    with pytest.raises(FrozenInstanceError):
        judgement.user_id = "v"
