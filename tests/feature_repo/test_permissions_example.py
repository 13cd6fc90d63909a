"""The example is applied to a store, and what is read back decides who may do what."""

from pathlib import Path
from typing import Any

import pytest

from feature_repo import repo_config
from feature_repo.store import Store


@pytest.fixture(scope="module")
def applied(
    tmp_path_factory: pytest.TempPathFactory, imported_feast: None
) -> tuple[Any, dict[str, Any]]:
    """Feast's permissions as its registry holds them, and the views by name."""
    import feast
    from feast.permissions.permission import Permission
    from feast.repo_config import RepoConfig

    from feature_repo import permissions_example, views

    root = tmp_path_factory.mktemp("permissions")
    settings = repo_config.load(repo_config.EMBEDDED, root=root)
    store = feast.FeatureStore(config=RepoConfig(**settings, repo_path=root))
    held = [one for one in vars(permissions_example).values() if isinstance(one, Permission)]
    objects = views.build(root, {}, {}, {})
    store.apply([*objects, *held])
    again = Store(Path(root))
    again.apply()  # ours leaves them alone
    store.refresh_registry()
    return store.list_permissions(), {one.name: one for one in store.list_feature_views()}


def may(role: str, action: str, view: Any, permissions: Any) -> bool:
    from feast.errors import FeastPermissionError
    from feast.permissions.action import AuthzedAction
    from feast.permissions.enforcer import enforce_policy
    from feast.permissions.user import User

    user = User(username="somebody", roles=[role])
    try:
        enforce_policy(permissions, user, [view], [AuthzedAction(action)])
    except FeastPermissionError:
        return False
    return True


@pytest.mark.parametrize(
    ("role", "action", "view", "is_allowed"),
    [
        ("recommender-service", "read_online", "item_profile", True),
        ("recommender-service", "write_online", "item_profile", False),
        ("recommender-service", "write_online", "user_history", True),
        ("recommender-service", "delete", "user_history", False),
        ("nightly-job", "write_online", "item_profile", True),
        ("nightly-job", "update", "user_history", True),
        ("somebody-else", "read_online", "item_profile", False),
    ],
)
def test_a_role_may_do_what_the_example_says(
    applied: tuple[Any, dict[str, Any]], role: str, action: str, view: str, is_allowed: bool
) -> None:
    permissions, views = applied
    assert len(permissions) == 3
    assert may(role, action, views[view], permissions) is is_allowed
