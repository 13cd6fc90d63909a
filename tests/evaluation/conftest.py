"""One small world and its report for all tests of the room; both are frozen, hence shared."""

import pytest

from evaluation.report import Report
from tests.evaluation.small_world import World, make_report, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(num_users=300)


@pytest.fixture(scope="session")
def report(world: World) -> Report:
    return make_report(world)
