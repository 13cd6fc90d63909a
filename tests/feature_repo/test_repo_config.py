from pathlib import Path

import pytest

from feature_repo import repo_config
from feature_repo.base import StoreError

PRODUCTION = repo_config.EMBEDDED.with_name("production.yaml")


def test_the_embedded_profile_lies_below_the_root(tmp_path: Path) -> None:
    settings = repo_config.load(repo_config.EMBEDDED, root=tmp_path)
    assert settings["registry"]["path"] == f"{tmp_path}/registry.db"
    assert settings["online_store"]["path"] == f"{tmp_path}/online.db"
    assert settings["project"] == "sommelier"


def test_an_sqlite_address_is_anchored_too(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text("registry: {path: 'sqlite:///data/r.db'}\nother: mydata/x\n")
    settings = repo_config.load(profile, root=tmp_path)
    assert settings == {"registry": {"path": f"sqlite:///{tmp_path}/r.db"}, "other": "mydata/x"}


def test_a_variable_that_is_not_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS", "localhost:6379")
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    with pytest.raises(StoreError, match="environment variables POSTGRES_URL; set them first"):
        repo_config.load(PRODUCTION, root=tmp_path)


def test_a_variable_that_is_set_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS", "localhost:6379")
    monkeypatch.setenv("POSTGRES_URL", "postgresql+psycopg://me@localhost/feast")
    settings = repo_config.load(PRODUCTION, root=tmp_path)
    assert settings["registry"]["path"] == "postgresql+psycopg://me@localhost/feast"
    assert settings["online_store"]["connection_string"] == "localhost:6379"


def test_a_missing_or_empty_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no Feast profile"):
        repo_config.load(tmp_path / "none.yaml", root=tmp_path)
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    with pytest.raises(StoreError, match="holds no settings"):
        repo_config.load(empty, root=tmp_path)


def test_a_password_may_hold_what_yaml_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for secret in ("12345", "a: b #c", 'it\'s "so"', "$HOME"):
        monkeypatch.setenv("REDIS", f"host:6379,password={secret}")
        monkeypatch.setenv("POSTGRES_URL", "postgresql+psycopg://me@localhost/feast")
        settings = repo_config.load(PRODUCTION, root=tmp_path)
        assert settings["online_store"]["connection_string"] == f"host:6379,password={secret}"


def test_an_online_store_keeps_its_name_when_a_password_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", "postgresql+psycopg://me@localhost/feast")
    names = []
    for redis in ("a:1,password=x,db=1", "a:1,ssl=true,password=y,username=z,db=1", "a:1,db=2"):
        monkeypatch.setenv("REDIS", redis)
        names.append(repo_config.online_id(repo_config.load(PRODUCTION, root=tmp_path)))
    assert names[0] == names[1] != names[2]
