"""The route has seen nothing of the future, and a planted leak is caught where it was planted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sommelier.index
import sommelier.training.train
import sommelier.workspace
from embedders.texts import TextSource
from retrieval.concatenated import concatenate
from retrieval.popularity import popularity
from sommelier.demo import shop as demo_shop
from sommelier.evaluating.artifacts import _folder, compare, stages
from sommelier.evaluating.audit import Audited, Traveler, audit, compared, prepare, whom
from sommelier.index import index
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.sommelier.conftest import SETTINGS, Run

Asked = tuple[str, datetime]
WRITTEN = """
[summaries]
enabled = true

[preferences]
enabled = true

[ranker.prompt]
candidates = "both"
summary_tokens = 6
preference_tokens = 12
"""
Pair = tuple[Traveler, Traveler]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of a shop half of whose items come while it is open, some behind the cut, and
    of whose items and users is written."""
    folder = tmp_path_factory.mktemp("audited")
    config = demo_shop.ShopConfig(num_items=60, num_users=60, late_share=0.6)
    demo_shop.write(folder / "catalog", config=config)
    (folder / "sommelier.toml").write_text(SETTINGS + WRITTEN)
    return folder / "sommelier.toml"


@pytest.fixture(scope="module")
def workspace(opened: Path) -> Workspace:
    return Workspace(load(opened))


@pytest.fixture(scope="module")
def pair(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, imported_feast: None
) -> Iterator[Pair]:
    """Both routes, gone once, as `audit` goes them."""
    folder = tmp_path_factory.mktemp("routes")
    both = (
        prepare(workspace, folder / "own", seed=None),
        prepare(workspace, folder / "other", seed=0),
    )
    for one in both:
        one.go(Unwatched())
    yield both
    for one in both:
        one.workspace.close()


def found(workspace: Workspace, pair: Pair) -> Audited:
    """The comparison as of now, whatever was looked up before."""
    fresh = [Traveler(one.workspace.settings, one.copied) for one in pair]
    try:
        return compared(*fresh, whom(workspace, pair[0].copied, limit=20, seed=0))
    finally:
        for one in fresh:
            one.workspace.close()


def test_nothing_from_behind_the_cut_is_seen(workspace: Workspace, pair: Pair) -> None:
    audited = found(workspace, pair)
    assert len(pair[0].copied.late_ids) > 3
    assert audited.is_clean, audited.summary.rows
    assert {row[1] for row in audited.summary.rows} == {"same"}
    assert audited.stages[0] == "timeline"
    assert audited.stages[-1] == "answers"


def test_both_routes_made_something_to_compare(workspace: Workspace, pair: Pair) -> None:
    asked = whom(workspace, pair[0].copied, limit=20, seed=0)
    for name, make in stages(pair[0].workspace, asked, serving=lambda: pair[0].serving):
        if name != "fusion of lists":  # the settings ask for none
            assert make(), name


def test_popularity_counted_over_everything_is_found_there(
    workspace: Workspace, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_all_times(interactions: pa.Table, *, until: datetime | None, **words: Any) -> Any:
        return popularity(interactions, until=None, **words)

    with monkeypatch.context() as planted:
        planted.setattr(sommelier.index, "popularity", of_all_times)
        _index(pair)
        audited = found(workspace, pair)
    assert audited.differences[0].stage == "popularity"
    assert not audited.is_clean
    assert "first in: popularity" in audited.summary.title
    _index(pair)
    assert found(workspace, pair).is_clean


def _index(pair: Pair) -> None:
    for one in pair:
        index(one.workspace, watch=Unwatched())


def test_preferences_as_of_now_are_found_in_the_answers(
    workspace: Workspace, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_now(one: Workspace, source: TextSource, pairs: Sequence[Asked]) -> list[str | None]:
        now = one.store.read_texts(source)
        return [now[user_id].text if user_id in now else None for user_id, _ in pairs]

    monkeypatch.setattr(Workspace, "texts_as_of", of_now)
    audited = found(workspace, pair)
    assert [one.stage for one in audited.differences] == ["answers"]
    assert audited.differences[0].name[0] in "45", "orders and scores; retrieval reads none"


def test_centers_over_all_items_are_found_there(
    workspace: Workspace, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_all_items(*given: Any, fitted_on: Any, **words: Any) -> Any:
        return concatenate(*given, fitted_on=None, **words)

    monkeypatch.setattr(sommelier.workspace, "concatenate", of_all_items)
    audited = found(workspace, pair)
    assert [one.stage for one in audited.differences][:2] == ["centers", "item vectors"]
    assert "values differ by up to" in audited.differences[0].detail


def test_words_of_later_items_are_found_in_the_llm(
    workspace: Workspace, pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def of_all_items(one: Workspace) -> Iterator[str]:
        return (item.title for item in one.catalog.items())

    monkeypatch.setattr(sommelier.training.train, "_texts", of_all_items)
    own, other = (
        sommelier.training.train._llm(_with_models(one.workspace, tmp_path / name), Unwatched())
        for name, one in zip(("own", "other"), pair, strict=True)
    )
    difference = compare("LLM", _folder(Path(own)), _folder(Path(other)))
    assert difference is not None
    assert difference.stage == "LLM"


def _with_models(workspace: Workspace, models: Path) -> Workspace:
    settings = workspace.settings
    return Workspace(replace(settings, paths=replace(settings.paths, models=models)))


def test_an_audit_leaves_the_workspace_alone_and_ends_with_a_true_code(
    run: Run, opened: Path, tmp_path: Path, imported_feast: None
) -> None:
    before = sorted(path.name for path in opened.parent.iterdir())
    unwritten = ["summaries.enabled=false", "preferences.enabled=false"]
    unwritten += [f"ranker.prompt.{one}_tokens=0" for one in ("summary", "preference")]
    words = ["--settings", opened, *(word for one in unwritten for word in ("--set", one))]
    result = run("audit", *words, "--users", 5, "--keep", tmp_path / "kept")
    assert result.exit_code == 0, result.output + result.stderr
    assert "nothing from behind the cut was seen" in result.output
    assert sorted(path.name for path in opened.parent.iterdir()) == before
    again = run("audit", "--settings", opened, "--keep", tmp_path / "kept")
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def test_without_a_future_there_is_nothing_to_audit(opened: Path) -> None:
    with pytest.raises(ValueError, match="no future to be exchanged"):
        audit(Workspace(load(opened, overrides=["time.cut=end"])), watch=Unwatched())
