import pytest

from feature_repo.base import Entity, HistoryConfig


def test_an_entity_knows_its_id_column() -> None:
    assert [entity.join_key for entity in Entity] == ["item_id", "user_id"]


def test_a_history_of_no_events_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one event, got a limit of 0"):
        HistoryConfig(limit=0)
