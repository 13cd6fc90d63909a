"""What the benchmark of summaries measures with: preferences of histories, weights, gains."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embedders.catalog import read
from embedders.items import Interaction
from evaluation.judgements import Judgement
from retrieval.candidates import Query

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def modules(benchmark_modules: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return benchmark_modules(summaries="summaries", games="_summaries_games")


def test_a_preference_is_told_of_whole_blocks_of_the_history(
    modules: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,category\na,Heat,Action\nb,Ran,Drama\n")
    catalog = read(tmp_path)
    known = modules.summaries.World(
        catalog=catalog,
        interactions=catalog.interactions,
        graph_until=START,
        cut=START,
        has_order=False,
    )

    def query(ids: str) -> Query:
        return Query(
            history=tuple(
                Interaction(item_id=one, behavior="view", timestamp=START + timedelta(minutes=n))
                for n, one in enumerate(ids)
            )
        )

    assert modules.summaries.preferences(known, [query("abbab"), query("ab")]) == [
        'The user\'s choices: Drama x2; Action x1; lately "Heat"; "Ran"; "Ran"',
        None,
    ]


def test_gains_are_of_the_same_users(modules: SimpleNamespace) -> None:
    judged = [Judgement(user_id=f"u{n}", as_of=START, item_ids=frozenset({"a"})) for n in range(40)]
    worse = [["b"] if n < 10 else ["a"] for n in range(40)]
    rankings = {
        "text": worse,
        "summary": worse,
        "text_and_summary": [["a"]] * 40,
        "graph_and_text": worse,
        "graph_text_and_summary": worse,
    }
    figures, meanings = modules.summaries.figures_of(
        "set", rankings, judged, dict.fromkeys(rankings, "")
    )
    assert figures.keys() == meanings.keys()
    assert figures["set_text_recall_at_20"]["median"] == 0.75
    assert figures["set_summary_adds_to_text_at_100"]["median"] == 0.25
    assert figures["set_summary_adds_to_text_at_100"]["low"] > 0
    assert figures["set_summary_less_text_at_20"]["high"] == 0


def test_of_equal_weightings_the_lightest_stands_first(modules: SimpleNamespace) -> None:
    tried = modules.games._weightings(("graph", "text", "summary"))
    assert len(tried) == 25
    assert tried[0] == {"graph": 1.0, "text": 0.0, "summary": 0.0}
    assert all(one["graph"] == 1.0 for one in tried)


def test_places_follow_the_weights_and_leave_the_history_out(modules: SimpleNamespace) -> None:
    eye = np.eye(4, dtype=np.float32)
    near = eye.copy()
    near[0, 1] = near[1, 0] = 0.5
    held = SimpleNamespace(
        histories=lambda split: [np.array([0])], targets=lambda split: np.array([2])
    )
    blocks = {"text": eye, "summary": near}
    tried = {"text": ({"text": 1.0},), "both": ({"text": 1.0, "summary": 1.0},)}
    far = modules.games._ranks(held, blocks, "test", [0], tried)
    assert far["text"][0].tolist() == [1]  # of three equal ones the second, the first being had
    assert far["both"][0].tolist() == [1]
    held.targets = lambda split: np.array([1])
    assert modules.games._ranks(held, blocks, "test", [0], tried)["both"][0].tolist() == [0]
