from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.store import Store
from tests.feature_repo.texts import PREFERENCE, SUMMARY

SOURCES = {one.source_id: one for one in (SUMMARY, PREFERENCE)}


@pytest.fixture(scope="module")
def found(served: Store, space: Space, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The objects by name; Feast is imported by then, as `served` needs it."""
    from feature_repo import views

    root = tmp_path_factory.mktemp("views")
    spaces = {(Entity.ITEM, space.space_id): space, (Entity.USER, space.space_id): space}
    return {each.name: each for each in views.build(root, spaces, SOURCES, {})}


def test_there_is_a_view_for_each_space_and_source_and_one_service_of_all(
    found: dict[str, Any], space: Space
) -> None:
    made = [f"{entity}_{space.space_id}" for entity in Entity]
    made += [f"item_{SUMMARY.source_id}", f"user_{PREFERENCE.source_id}"]
    names = [*sorted(made), "item_profile", "user_history"]
    assert list(found) == ["item", "user", *names, "rerank_v1"]
    projections = found["rerank_v1"].feature_view_projections
    assert [projection.name for projection in projections] == names


def test_a_vector_view_states_its_space(found: dict[str, Any], space: Space) -> None:
    tags = found[f"user_{space.space_id}"].tags
    assert tags["entity"] == "user"
    assert tags["space_id"] == space.space_id
    assert (tags["encoder"], tags["revision"], tags["dim"]) == ("toy", "1", "3")


def test_a_text_view_states_its_source_and_how_far_a_preference_has_read(
    found: dict[str, Any],
) -> None:
    assert found[f"item_{SUMMARY.source_id}"].tags == {
        "entity": "item",
        "kind": "summary",
        "writer": "toy/Writer-1",
        "revision": "1",
        "prompt": "p",
        "source_id": SUMMARY.source_id,
    }
    features = {
        kind: [(one.name, str(one.dtype), bool(one.description)) for one in found[name].features]
        for kind, name in (
            ("summary", f"item_{SUMMARY.source_id}"),
            ("preference", f"user_{PREFERENCE.source_id}"),
        )
    }
    text = ("text", "String", True)
    assert features == {"summary": [text], "preference": [text, ("position", "Int64", True)]}


def test_sources_are_absolute_folders_that_exist(found: dict[str, Any], space: Space) -> None:
    path = Path(found[f"item_{space.space_id}"].batch_source.path)
    assert path.is_absolute()
    assert [part.suffix for part in path.iterdir()] == [".parquet"]


def test_everything_says_what_it_is_and_whose(found: dict[str, Any]) -> None:
    for each in found.values():
        assert each.description
        assert each.owner == "sommelier"
    for name in ("item_profile", "user_history"):
        assert all(field.description for field in found[name].features)


def test_a_release_has_a_service_of_exactly_its_spaces_and_sources(
    found: dict[str, Any], space: Space, tmp_path: Path
) -> None:
    from feature_repo import views

    other = replace(space, revision="2")
    spaces = {(Entity.ITEM, one.space_id): one for one in (space, other)}
    releases = {"g-1": [other.space_id, SUMMARY.source_id], "g-0": ["dropped since"]}
    objects = {each.name: each for each in views.build(tmp_path, spaces, SOURCES, releases)}
    service = objects["rerank_g-1"]
    assert {one.name for one in service.feature_view_projections} == {
        f"item_{other.space_id}",
        f"item_{SUMMARY.source_id}",
        "item_profile",
        "user_history",
    }
    assert service.tags == {"release": "g-1"}
    assert "rerank_g-0" not in objects


def test_histories_take_pushes_and_vectors_do_not(found: dict[str, Any], space: Space) -> None:
    assert found["user_history"].stream_source.name == "user_history_push"
    assert found[f"item_{space.space_id}"].stream_source is None
