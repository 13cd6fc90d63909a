"""What others may do with the same store: Feast's own calls, on what our verbs wrote."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from embedders.vectors import Space
from feature_repo import repo_config
from feature_repo.store import Store


@pytest.fixture(scope="module")
def feast_itself(served: Store) -> Any:
    import feast
    from feast.repo_config import RepoConfig

    settings = repo_config.load(repo_config.EMBEDDED, root=served.root)
    return feast.FeatureStore(config=RepoConfig(**settings, repo_path=served.root))


# Feast imports faiss on the way, whose SWIG crashes where this warning is an error.
@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute")
def test_feast_serves_the_same_vectors(feast_itself: Any, space: Space) -> None:
    answer = feast_itself.get_online_features(
        features=[f"item_{space.space_id}:vector", "item_profile:title"],
        entity_rows=[{"item_id": "item-1"}, {"item_id": "item-3"}],
    ).to_dict()
    assert answer["vector"] == [[0, 1, 0], None]
    assert answer["title"] == ["Cheese", "Æbleskiver"]


def test_feast_joins_the_same_vectors_point_in_time(
    feast_itself: Any, space: Space, start: datetime
) -> None:
    import pandas as pd

    asked = pd.DataFrame({"item_id": ["item-2"], "event_timestamp": [start + timedelta(days=5)]})
    answer = feast_itself.get_historical_features(asked, [f"item_{space.space_id}:vector"])
    assert answer.to_df()["vector"][0].tolist() == [0, 0, 1]


def test_the_registry_knows_what_is_online(feast_itself: Any, space: Space) -> None:
    view = feast_itself.get_feature_view(f"item_{space.space_id}")
    assert view.most_recent_end_time is not None


def test_applying_twice_changes_nothing(served: Store, space: Space, feast_itself: Any) -> None:
    before = {view.name for view in feast_itself.list_feature_views()}
    assert set(served.apply()) == before
    feast_itself.refresh_registry()
    assert feast_itself.get_feature_view(f"item_{space.space_id}").most_recent_end_time is not None
