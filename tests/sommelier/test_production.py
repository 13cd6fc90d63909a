"""The whole route on a real Redis and PostgreSQL: from the command line to an answer over gRPC."""

from pathlib import Path

import pytest

from feature_repo import repo_config
from ranker.service.server import running
from retrieval.candidates import Query
from sommelier import ask
from sommelier.serve import loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.feature_repo.servers import PostgresServer, RedisServer
from tests.sommelier.conftest import Run

USER = "user-0003"
WISH = ask.Wish(query=Query(user_id=USER), top_k=10, num_candidates=60)
PROFILES = ("production.yaml", "production_postgres.yaml")

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that is on its way out.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
]


@pytest.fixture
def servers(
    redis: RedisServer, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> RedisServer:
    """Both, empty, and named in the environment."""
    postgres.recreate()
    with redis.client() as client:
        client.flushall()
    for name, value in {**redis.environment, **postgres.environment}.items():
        monkeypatch.setenv(name, value)
    return redis


def use(profile: str, settings: Path) -> None:
    path = repo_config.EMBEDDED.with_name(profile)
    settings.write_text(f'{settings.read_text()}\n[store]\nprofile = "{path}"\n')


@pytest.mark.parametrize("profile", PROFILES)
def test_a_workspace_answers_the_same_from_any_online_store(
    profile: str, built: Path, copy_of_built: Path, servers: RedisServer, run: Run
) -> None:
    embedded = loaded(Workspace(load(built)), watch=Unwatched())
    expected = ask.last(ask.here(embedded, WISH))

    use(profile, copy_of_built)
    materialized = run("materialize", "--settings", copy_of_built)
    assert materialized.exit_code == 0, materialized.output + materialized.stderr
    workspace = Workspace(load(copy_of_built))
    with running(loaded(workspace, watch=Unwatched())) as server:
        reply = ask.from_server(server.address, WISH, timeout_s=30)
    assert reply.lines == expected.lines
    workspace.close()


def test_a_redis_that_forgot_everything_is_told_and_filled_again_under_a_running_server(
    copy_of_built: Path, servers: RedisServer, run: Run
) -> None:
    use("production.yaml", copy_of_built)
    command = ("materialize", "--settings", copy_of_built)
    assert run(*command).exit_code == 0
    workspace = Workspace(load(copy_of_built))
    with running(loaded(workspace, watch=Unwatched())) as server:
        before = ask.from_server(server.address, WISH, timeout_s=30)
        servers.stop()
        servers.start()  # it kept nothing on disk
        refused = run(*command)
        assert refused.exit_code == 1
        assert "are missing online" in " ".join(refused.stderr.split())
        assert "sommelier materialize --full" in " ".join(refused.stderr.split())
        assert run(*command, "--full").exit_code == 0
        after = ask.from_server(server.address, WISH, timeout_s=30)
    assert after.lines == before.lines
    workspace.close()


def test_one_view_is_brought_alone(copy_of_built: Path, servers: RedisServer, run: Run) -> None:
    use("production.yaml", copy_of_built)
    done = run("materialize", "--settings", copy_of_built, "--view", "item_profile")
    assert done.exit_code == 0, done.output + done.stderr
    assert "item_profile" in done.output
    assert "user_history" not in done.output
    wrong = run("materialize", "--settings", copy_of_built, "--view", "profile")
    assert wrong.exit_code == 1
    assert "no view profile; there are:" in wrong.stderr
