"""One small world and its report for all tests of the room; both are frozen, hence shared."""

import pytest

from evaluation.protocol import EvaluationConfig
from evaluation.report import Report
from tests.evaluation.small_world import (
    World,
    make_evaluation,
    make_report,
    make_world,
    reasoned,
)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(num_users=300)


@pytest.fixture(scope="session")
def report(world: World) -> Report:
    return make_report(world)


@pytest.fixture(scope="session")
def told_why(report: Report) -> Report:
    """With explanations and a behavior of its own."""
    return reasoned(report)


@pytest.fixture(scope="session")
def alone(world: World) -> Report:
    """Of retrieval alone."""
    config = EvaluationConfig(samples=300, max_reranked=0)
    return make_evaluation(world, config=config).report


@pytest.fixture(scope="session")
def mixed(world: World) -> Report:
    """Retrieval on everybody, reranking on a fifth."""
    config = EvaluationConfig(samples=300, max_reranked=60)
    return make_evaluation(world, config=config).report
