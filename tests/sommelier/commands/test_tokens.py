"""`sommelier token`: what it prints where, and what it leaves in the file."""

import json
from pathlib import Path

import pytest

from ranker.service import callers
from tests.sommelier.conftest import Run


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "sommelier.toml"
    path.write_text('[server]\ncallers = "callers.jsonl"\n')
    return path


def test_the_token_alone_is_on_stdout_and_its_hash_in_the_file(run: Run, settings: Path) -> None:
    result = run("token", "shop", "--rate", "50", "--settings", settings)
    assert result.exit_code == 0
    token = result.stdout.strip()
    path = settings.with_name("callers.jsonl")
    caller = callers.read(path).by_token(token)
    assert caller is not None
    assert (caller.name, caller.rate) == ("shop", callers.Rate(requests_per_s=50, burst=50))
    assert token not in path.read_text()
    assert token not in result.stderr
    assert "shown this once" in result.stderr


def test_rotation_goes_by_a_second_token(run: Run, settings: Path) -> None:
    former, newest = (run("token", "shop", "--settings", settings).stdout.strip() for _ in range(2))
    path = settings.with_name("callers.jsonl")
    result = run("token", "shop", "--revoke", "--but-newest", "--settings", settings)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 of shop's lines taken out" in result.stderr
    known = callers.read(path)
    assert known.by_token(former) is None
    assert known.by_token(newest) is not None
    assert run("token", "--revoke", "shop", "--settings", settings).exit_code == 0
    assert path.read_text() == ""


def test_a_caller_with_a_certificate_gets_no_token(run: Run, settings: Path) -> None:
    result = run("token", "spiffe://shop", "--certificate", "--settings", settings)
    assert (result.exit_code, result.stdout) == (0, "")
    lines = settings.with_name("callers.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"caller": "spiffe://shop"}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["shop", "--burst", "3"], "--burst goes with --rate"),
        (["shop", "--rate", "0"], "requests_per_s must be above 0, got 0"),
        (["shop", "--but-newest"], "--but-newest goes with --revoke"),
        (["shop", "--revoke", "--rate", "3"], "--revoke goes with --but-newest alone"),
        (["a shop"], "CALLER must be 1 to 128 characters of ASCII without spaces"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_written(
    run: Run, settings: Path, words: list[str], told: str
) -> None:
    result = run("token", *words, "--settings", settings)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not settings.with_name("callers.jsonl").exists()


def test_revoking_whom_nobody_knows_is_an_error(run: Run, settings: Path) -> None:
    run("token", "shop", "--settings", settings)
    result = run("token", "blog", "--revoke", "--settings", settings)
    assert result.exit_code == 1
    assert "knows no caller 'blog'; it knows shop" in result.stderr


def test_without_a_file_of_callers_the_setting_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sommelier.toml"
    path.write_text("")
    result = run("token", "shop", "--settings", path)
    assert result.exit_code == 1
    assert "server.callers names no file: set it" in result.stderr
