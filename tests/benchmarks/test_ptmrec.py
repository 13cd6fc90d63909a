"""The sets' splits leak nothing, every regime is measured alike, and the table tells the claim."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from embedders.items import Item, Modality
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features
from embedders.tuning.stage_one import create

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench(benchmark_modules: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return benchmark_modules(sets="_ptmrec_sets", runs="_ptmrec_runs")


def small(bench: SimpleNamespace) -> SimpleNamespace:
    """Forty users who chose fifteen of sixty items each, in an order of their own."""
    rng = np.random.default_rng(0)
    items = [Item(item_id=f"i{n:02}", title=f"title {n}") for n in range(60)]
    chosen = np.concatenate([rng.choice(60, size=15, replace=False) for _ in range(40)])
    users = np.repeat(np.arange(40), 15)
    made: SimpleNamespace = bench.sets._split(
        "movielens", (users, chosen), [f"u{n:02}" for n in range(40)], items
    )
    made_of = SimpleNamespace(of=made, users=users, chosen=chosen)
    return made_of


def test_every_choice_is_learned_from_or_validated_or_judged_never_two_of_them(
    bench: SimpleNamespace,
) -> None:
    own = small(bench)
    parts = [
        (own.of.choices.users_E, own.of.choices.items_E),
        (own.of.choices.users_V, own.of.choices.items_V),
        own.of.test,
        own.of.cold,
    ]
    pairs = [pair for part in parts for pair in zip(*(one.tolist() for one in part), strict=True)]
    assert sorted(pairs) == sorted(zip(own.users.tolist(), own.chosen.tolist(), strict=True))
    assert all(len(part[0]) for part in parts)


def test_what_is_judged_comes_last_and_cold_items_are_in_nothing_else(
    bench: SimpleNamespace,
) -> None:
    own = small(bench)
    of = own.of
    assert of.is_cold_I[of.cold[1]].all()
    for items in (of.choices.items_E, of.choices.items_V, of.test[1]):
        assert not of.is_cold_I[items].any()
    for user in range(40):
        order = own.chosen[own.users == user].tolist()
        learned = of.choices.items_E[of.choices.users_E == user].tolist()
        asked = of.choices.items_V[of.choices.users_V == user].tolist()
        judged = of.test[1][of.test[0] == user].tolist()
        assert max(map(order.index, learned)) < min(map(order.index, [*asked, *judged]))
        assert max(map(order.index, asked)) < min(map(order.index, judged))


def test_a_core_holds_five_of_everything(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    users = np.array([f"u{n}" for n in rng.integers(0, 40, size=400)])
    items = np.array([f"i{n}" for n in rng.integers(0, 70, size=400)])
    users, items = bench.sets._core(users, items, set(items.tolist()), num_users=None)
    assert len(users)
    assert np.unique(users, return_counts=True)[1].min() >= 5
    assert np.unique(items, return_counts=True)[1].min() >= 5


def test_who_ranks_the_judged_first_is_perfect_and_what_is_known_takes_no_place(
    bench: SimpleNamespace,
) -> None:
    of = small(bench).of
    ones = Features(vectors_ID=np.ones((60, 1), dtype=np.float32), is_present_I=np.ones(60, bool))
    recommender = create(of.choices, {Modality.TEXT: ones}, TuningConfig(dim=60))
    with torch.no_grad():
        recommender.users.zero_()
        recommender.items.copy_(torch.eye(60))
        recommender.users[of.test[0], of.test[1]] = 1.0
        recommender.users[of.cold[0], of.cold[1]] = 1.0
        recommender.users[of.choices.users_E, of.choices.items_E] = 5.0
        recommender.users[of.choices.users_V, of.choices.items_V] = 5.0
    cold = bench.runs.measured(of, recommender, "cold")
    assert {name: one.min() for name, one in cold.items()} == {name: 1.0 for name in cold}
    with torch.no_grad():
        recommender.users[of.cold[0], of.cold[1]] = 0.0
    warm = bench.runs.measured(of, recommender, "test")
    assert len(warm["recall@10"]) == len(np.unique(of.test[0]))
    assert min(one.min() for one in warm.values()) == 1.0


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_benchmark_runs_and_a_second_run_measures_nothing_anew(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for path in BENCHMARKS.glob("*.py"):
        (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")

    def run() -> tuple[str, dict[str, dict[str, float]]]:
        names = ["ptmrec.py", "--quick", "--sets", "movielens_posters", "--seeds", "0", "1"]
        done = subprocess.run(
            [sys.executable, *names, "--json", str(tmp_path / "figures.json")],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(BENCHMARKS.parent),
                "SOMMELIER_SHARED_DATA": str(shared_data),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, json.loads((tmp_path / "figures.json").read_text())["figures"]

    said, figures = run()
    assert "| `dual` less `frozen` |" in said
    assert figures["trained_share_movielens_posters"]["high"] <= 0.02
    assert set(figures) >= {
        "dual_over_frozen_recall_at_20_movielens_posters",
        "joint_over_frozen_recall_at_20_movielens_posters",
    }
    again, same = run()
    assert "encoders" not in again.replace("encoder that", "")
    assert same == figures
