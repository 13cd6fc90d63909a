from pathlib import Path
from typing import Any

import pytest

from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.store import Store


@pytest.fixture(scope="module")
def found(served: Store, space: Space, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The objects by name; Feast is imported by then, as `served` needs it."""
    from feature_repo import views

    root = tmp_path_factory.mktemp("views")
    spaces = {(Entity.ITEM, space.space_id): space, (Entity.USER, space.space_id): space}
    return {each.name: each for each in views.build(root, spaces, {})}


def test_there_is_a_view_for_each_space_and_one_service_of_all(
    found: dict[str, Any], space: Space
) -> None:
    names = [f"item_{space.space_id}", f"user_{space.space_id}", "item_profile", "user_history"]
    assert list(found) == ["item", "user", *names, "rerank_v1"]
    projections = found["rerank_v1"].feature_view_projections
    assert [projection.name for projection in projections] == names


def test_a_vector_view_states_its_space(found: dict[str, Any], space: Space) -> None:
    tags = found[f"user_{space.space_id}"].tags
    assert tags["entity"] == "user"
    assert tags["space_id"] == space.space_id
    assert (tags["encoder"], tags["revision"], tags["dim"]) == ("toy", "1", "3")


def test_sources_are_absolute_folders_that_exist(found: dict[str, Any], space: Space) -> None:
    path = Path(found[f"item_{space.space_id}"].batch_source.path)
    assert path.is_absolute()
    assert [part.suffix for part in path.iterdir()] == [".parquet"]
