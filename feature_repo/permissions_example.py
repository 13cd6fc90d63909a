"""Who may do what with the views, as Feast's own servers enforce it: an example to copy.

Copied to `definitions_permissions.py`, it is applied by `feast -c feature_repo apply` (Feast reads
files whose names begin with `d`); `Store.apply` leaves permissions alone. They hold for whoever
comes through a Feast server with `auth` in its profile. Whoever has the passwords of PostgreSQL and
Redis does not ask Feast: give the services users there that may only read.
"""

from typing import Any

from feast import Entity, FeatureService, FeatureView, Project
from feast.data_source import DataSource
from feast.permissions.action import ALL_ACTIONS, AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy

# Roles, as the identity provider names them.
SERVICE, NIGHTLY = "recommender-service", "nightly-job"

# Feast declares instances where it takes classes.
SERVED: list[Any] = [Project, Entity, FeatureView, FeatureService]
PUSHED: list[Any] = [FeatureView, DataSource]
EVERYTHING: list[Any] = [*SERVED, DataSource]

services_read = Permission(
    name="services_read",
    types=SERVED,
    actions=[AuthzedAction.DESCRIBE, AuthzedAction.READ_ONLINE],
    policy=RoleBasedPolicy(roles=[SERVICE, NIGHTLY]),
)

# Events are pushed by the service that sees them, into the one view that takes pushes.
services_push = Permission(
    name="services_push",
    types=PUSHED,
    name_patterns=["^user_history(_push)?$"],
    actions=[AuthzedAction.DESCRIBE, AuthzedAction.WRITE_ONLINE],
    policy=RoleBasedPolicy(roles=[SERVICE]),
)

nightly_writes = Permission(
    name="nightly_writes",
    types=EVERYTHING,
    actions=ALL_ACTIONS,
    policy=RoleBasedPolicy(roles=[NIGHTLY]),
)
