from dataclasses import replace

import pyarrow as pa

from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.tables import all_views, history_view, profile_view, text_view, vector_view
from tests.feature_repo.texts import PREFERENCE, SUMMARY


def test_two_spaces_never_share_a_view(space: Space) -> None:
    other = replace(space, revision="2")
    assert vector_view(space).name != vector_view(other).name
    assert vector_view(space).name == f"item_{space.space_id}"
    assert vector_view(space, entity=Entity.USER).name == f"user_{space.space_id}"


def test_every_view_has_its_key_and_both_times(space: Space) -> None:
    sources = {one.source_id: one for one in (SUMMARY, PREFERENCE)}
    for view in all_views({(Entity.ITEM, space.space_id): space}, sources):
        assert view.schema.names[:3] == [view.key, "event_timestamp", "created"]
        assert view.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_a_vector_is_served_alone(space: Space) -> None:
    assert vector_view(space).features == ("vector",)
    assert {"content_hash", "space_id"} <= set(vector_view(space).schema.names)


def test_two_text_sources_never_share_a_view() -> None:
    other = replace(SUMMARY, revision="2")
    assert text_view(SUMMARY).name != text_view(other).name
    assert text_view(SUMMARY).name == f"item_{SUMMARY.source_id}"
    assert text_view(SUMMARY).name.startswith("item_summary_toy_writer_1_")
    assert text_view(PREFERENCE).name == f"user_{PREFERENCE.source_id}"


def test_a_release_names_vectors_and_texts_and_not_what_all_read(space: Space) -> None:
    spaces = {(Entity.USER, space.space_id): space}
    views = all_views(spaces, {SUMMARY.source_id: SUMMARY})
    assert [view.origin_id for view in views] == [SUMMARY.source_id, space.space_id, None, None]


def test_profiles_and_histories_have_views_before_any_space() -> None:
    assert all_views({}, {}) == [profile_view(), history_view()]
