"""The benchmark of packed scoring runs, small, and writes figures that can be compared."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ("--shape", "tiny", "--prefix", "48", "--candidates", "20", "--rounds", "1")

pytestmark = pytest.mark.slow  # several processes, each of which imports torch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one tiny run wrote, and what it printed."""
    file = tmp_path_factory.mktemp("benchmark") / "figures.json"
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "packed_scoring.py"), *TINY, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return {"printed": run.stdout, **json.loads(file.read_text())}


def test_every_figure_has_a_median_between_its_lowest_and_highest(made: dict[str, Any]) -> None:
    assert set(made["figures"]) >= {
        "speedup_48x20",
        "speedup_96x40",
        "speedup_over_cross_encoder_48x20",
        "tokens4_cold",
        "tokens4_warm",
        "fp32_peak_share",
        "extra_memory_mb",
        "max_abs_dlogit_fp32",
    }
    for name, figure in made["figures"].items():
        assert set(figure) == {"median", "low", "high"}, name
        assert 0 <= figure["low"] <= figure["median"] <= figure["high"], name


@pytest.mark.parametrize("sides", ["fp32", "cached", "96x40"])
def test_all_sides_score_alike(made: dict[str, Any], sides: str) -> None:
    deviation = made["figures"]["logit_deviation"]["low"]
    assert made["figures"][f"max_abs_dlogit_{sides}"]["high"] < 1e-4 * deviation


def test_a_kept_prefix_changes_no_bit(made: dict[str, Any]) -> None:
    assert made["figures"]["max_abs_dlogit_warm"]["high"] == 0


def test_the_file_says_where_and_how_it_was_measured(made: dict[str, Any]) -> None:
    assert set(made["machine"]) == {"processor", "cores", "memory_gib", "system"}
    assert set(made["versions"]) == {"python", "sentence-transformers", "torch", "transformers"}
    assert made["command"].startswith("python ")
    assert "--rounds 1" in made["command"]


def test_the_figures_are_printed_with_their_meanings(made: dict[str, Any]) -> None:
    assert "speedup_48x20" in made["printed"]
    assert "CPU time one by one / packed" in made["printed"]


def test_the_cross_encoder_reads_the_very_tokens(
    benchmark_modules: Callable[..., SimpleNamespace],
) -> None:
    sides = benchmark_modules(sides="_packed_sides").sides
    encoder = sides.cross_encoder("tiny")
    prompts = sides.draw(30, 9, vocab_size=256, seed=3)
    prefix = prompts.prefix_P.tolist()
    for branch_T in prompts.branches:
        branch = branch_T.tolist()
        read = encoder.tokenizer(*(" ".join(map(str, one)) for one in (prefix, branch)))
        assert read["input_ids"] == prefix + branch
    found = sides.crossed(encoder, prompts, sides.batched(prompts.lengths))
    assert len(found) == 9
    assert found.std() > 0
