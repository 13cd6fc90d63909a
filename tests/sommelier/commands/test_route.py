"""Every command ends with an exit code that is true and a message that says what to do."""

import socket
import tomllib
from pathlib import Path

import pytest

from sommelier.settings import Settings
from sommelier.settings_file import load, parse
from tests.sommelier.conftest import SETTINGS, STAGES, Run

AFTER_EMBED = ("materialize", "train", "index", "publish", "serve", "evaluate")


def test_what_init_writes_loads_as_the_defaults(run: Run, tmp_path: Path) -> None:
    result = run("init", tmp_path / "new")
    assert result.exit_code == 0
    path = tmp_path / "new" / "sommelier.toml"
    assert parse(tomllib.loads(path.read_text())) == Settings()
    assert f"sommelier embed --settings {path}" in result.output


def test_init_replaces_a_file_only_when_told_to(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sommelier.toml"
    path.write_text("mine")
    assert run("init", tmp_path).exit_code == 1
    assert path.read_text() == "mine"
    assert run("init", tmp_path, "--force").exit_code == 0


@pytest.mark.parametrize("words", [["no-such-command"], ["recommend"], ["embed", "--colour"]])
def test_a_misuse_is_code_two(run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_without_a_settings_file_the_message_names_init(run: Run, tmp_path: Path) -> None:
    result = run("embed", "--settings", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "run `sommelier init`" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_where_it_failed(run: Run, tmp_path: Path) -> None:
    result = run("embed", "--settings", tmp_path / "none.toml", "--debug")
    assert "Traceback" in result.stderr


def test_a_missing_catalog_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sommelier.toml").write_text("")
    result = run("embed", "--settings", tmp_path / "sommelier.toml")
    assert result.exit_code == 1
    assert f"{tmp_path / 'catalog'} is not a folder" in result.stderr


def test_a_misspelt_word_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sommelier.toml").write_text("")
    result = run("embed", "--settings", tmp_path / "sommelier.toml", "--set", "index.knid=flat")
    assert result.exit_code == 1
    assert "did you mean 'kind'?" in result.stderr


@pytest.mark.parametrize("command", AFTER_EMBED)
def test_a_stage_without_the_one_before_names_a_command(
    run: Run, shop_alone: Path, command: str, imported_feast: None
) -> None:
    result = run(command, "--settings", shop_alone)
    assert result.exit_code == 1
    assert "run `sommelier " in result.stderr


@pytest.fixture
def shop_alone(shop: Path, tmp_path: Path) -> Path:
    """The shop's catalog with a workspace in which nothing has run."""
    path = tmp_path / "sommelier.toml"
    path.write_text(f'[catalog]\npath = "{shop / "catalog"}"\n{SETTINGS}')
    return path


def test_an_unknown_user_is_told_apart_from_a_failure(run: Run, built: Path) -> None:
    result = run("recommend", "--settings", built, "--user", "nobody")
    assert result.exit_code == 1
    assert "the store knows no user 'nobody'" in result.stderr


def test_recommend_shows_titles_and_moves(run: Run, built: Path) -> None:
    result = run("recommend", "--settings", built, "--user", "user-0003", "--top-k", "4")
    assert result.exit_code == 0, result.stderr
    assert result.output.count("box-") == 4
    assert "judged by llm, from this process" in result.output


def test_scores_are_taken_apart_when_asked_for(run: Run, built: Path) -> None:
    words = ("--user", "user-0003", "--top-k", "3", "--explain")
    result = run("recommend", "--settings", built, *words)
    assert result.exit_code == 0, result.stderr
    assert "What the scores are made of" in result.output
    assert "exact Shapley value" in result.output
    items = ("--user", "user-0003", "--items", "box-0001")
    assert "Shapley" not in run("rerank", "--settings", built, *items).output
    explained = run("rerank", "--settings", built, *items, "--explain")
    assert "Shapley" in explained.output, explained.stderr


def test_a_behavior_that_cannot_be_asked_about_is_told(run: Run, built: Path) -> None:
    words = ("--user", "user-0003", "--behavior", "purchase")
    result = run("recommend", "--settings", built, *words)
    assert result.exit_code == 1
    assert "leave the behavior out" in result.stderr


def test_rerank_puts_an_unknown_item_last(run: Run, built: Path) -> None:
    words = ("--user", "user-0003", "--items", "box-0001, nothing,box-0002")
    result = run("rerank", "--settings", built, *words)
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.output.splitlines() if "box-" in line or "nothing" in line]
    assert "nothing" in lines[-1]
    assert "unknown item" in lines[-1]


def test_an_item_named_twice_is_refused(run: Run, built: Path) -> None:
    words = ("--user", "user-0003", "--items", "box-0001,box-0001")
    result = run("rerank", "--settings", built, *words)
    assert result.exit_code == 1
    assert "twice" in result.stderr


def test_a_server_that_is_not_there_is_named(run: Run) -> None:
    words = ("--user", "u", "--server", "127.0.0.1:1", "--timeout", "0.3")
    result = run("recommend", *words)
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr


def test_a_taken_port_is_named(run: Run, built: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--settings", built, "--set", f"server.port={port}")
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is taken" in result.stderr


def test_every_stage_run_again_does_nothing(run: Run, built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in parts_of(built)}
    for stage in STAGES:
        result = run(stage, "--settings", built)
        assert result.exit_code == 0, result.stderr
        if stage in ("train", "index", "publish"):
            assert "nothing is new" in result.output
    assert {path: path.stat().st_mtime_ns for path in parts_of(built)} == before


def parts_of(settings: Path) -> list[Path]:
    """Whatever a stage made that a second run must not make again."""
    read = load(settings)
    folders = (read.store.root / "parts", read.paths.models, read.paths.generations)
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def test_an_earlier_generation_is_served_again(run: Run, built: Path) -> None:
    result = run("publish", "--settings", built, "--point", "g-000001")
    assert result.exit_code == 0
    assert "g-000001" in result.output
    refused = run("publish", "--settings", built, "--point", "g-999999")
    assert refused.exit_code == 1
    assert "g-000001" in refused.stderr


def test_generations_are_listed_and_rolling_back_says_what_there_is(run: Run, built: Path) -> None:
    listed = run("generations", "--settings", built)
    assert listed.exit_code == 0, listed.stderr
    assert "g-000001 *" in listed.output
    again = run("rollback", "g-000001", "--settings", built)
    assert again.exit_code == 0, again.stderr
    assert "g-000001" in again.output
    refused = run("rollback", "--settings", built)
    assert refused.exit_code == 1
    assert "no generation before g-000001" in refused.stderr
