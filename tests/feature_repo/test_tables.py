from dataclasses import replace

import pyarrow as pa

from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.tables import all_views, history_view, profile_view, vector_view


def test_two_spaces_never_share_a_view(space: Space) -> None:
    other = replace(space, revision="2")
    assert vector_view(space).name != vector_view(other).name
    assert vector_view(space).name == f"item_{space.space_id}"
    assert vector_view(space, entity=Entity.USER).name == f"user_{space.space_id}"


def test_every_view_has_its_key_and_both_times(space: Space) -> None:
    for view in all_views({(Entity.ITEM, space.space_id): space}, {}):
        assert view.schema.names[:3] == [view.key, "event_timestamp", "created"]
        assert view.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_a_vector_is_served_alone(space: Space) -> None:
    assert vector_view(space).features == ("vector",)
    assert {"content_hash", "space_id"} <= set(vector_view(space).schema.names)


def test_profiles_and_histories_have_views_before_any_space() -> None:
    assert all_views({}, {}) == [profile_view(), history_view()]
