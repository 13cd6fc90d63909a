"""The benchmark of packed scoring runs, small, and writes figures that can be compared."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "packed_scoring.py"
TINY = ("--shape", "tiny", "--prefix", "48", "--candidates", "10", "--rounds", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one tiny run wrote, and what it printed."""
    file = tmp_path_factory.mktemp("benchmark") / "figures.json"
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *TINY, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return {"printed": run.stdout, **json.loads(file.read_text())}


def test_every_figure_has_a_median_between_its_lowest_and_highest(made: dict[str, Any]) -> None:
    assert set(made["figures"]) >= {"speedup_48x10", "tokens4_48x10", "fp32_peak_share"}
    for name, figure in made["figures"].items():
        assert set(figure) == {"median", "low", "high"}, name
        assert 0 <= figure["low"] <= figure["median"] <= figure["high"], name


@pytest.mark.parametrize("difference", ["max_abs_dlogit_fp32", "max_abs_dlogit_cached"])
def test_all_sides_score_alike(made: dict[str, Any], difference: str) -> None:
    deviation = made["figures"]["logit_deviation"]["low"]
    assert made["figures"][difference]["high"] < 1e-4 * deviation


def test_the_file_says_where_and_how_it_was_measured(made: dict[str, Any]) -> None:
    assert set(made["machine"]) == {"processor", "cores", "memory_gib", "system"}
    assert {"python", "torch", "transformers"} == set(made["versions"])
    assert made["command"].startswith("python ")
    assert "--rounds 1" in made["command"]


def test_the_figures_are_printed_with_their_meanings(made: dict[str, Any]) -> None:
    assert "speedup_48x10" in made["printed"]
    assert "CPU time one by one / packed" in made["printed"]
