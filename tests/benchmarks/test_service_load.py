"""The benchmarks of the service run, small, and write figures that can be compared."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.slow  # several servers, each of which imports torch


def figures(script: str, *options: str, folder: Path) -> dict[str, Any]:
    """What one tiny run wrote."""
    file = folder / "figures.json"
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    made: dict[str, Any] = json.loads(file.read_text())["figures"]
    for name, figure in made.items():
        assert 0 <= figure["low"] <= figure["median"] <= figure["high"], name
    return made


def test_a_served_model_is_compared_with_the_bare_one(tmp_path: Path) -> None:
    options = ("--shape", "tiny", "--candidates", "20", "--rounds", "1")
    made = figures("service_load.py", "--only", "overhead", *options, folder=tmp_path)
    assert set(made) == {"overhead", "overhead_latency", "bare_ms"}
    assert made["overhead"]["low"] > 0


def test_whoever_gets_no_answer_under_overload_knows_why(tmp_path: Path) -> None:
    options = ("--load-shape", "tiny", "--seconds", "2", "--rounds", "1")
    made = figures("service_load.py", "--only", "noop", "overload", *options, folder=tmp_path)
    assert set(made) >= {"noop_p50_ms", "noop_rps", "goodput_at_3x_over_1x"}
    assert made["told_why_at_3x"]["low"] == 1


def test_another_server_of_the_same_backbone_stands_beside_ours(tmp_path: Path) -> None:
    options = ("--shape", "tiny", "--candidates", "12", "--rounds", "1", "--calls", "2")
    made = figures("service_peers.py", *options, folder=tmp_path)
    assert made["rps_vs_cross_encoder_fastapi"]["low"] > 0
    assert 400 < made["prefix_tokens"]["median"] < 700


def test_a_soak_counts_errors_and_watches_the_memory(tmp_path: Path) -> None:
    options = ("--shape", "tiny", "--minutes", "0.15", "--share", "0.3")
    made = figures("soak.py", *options, folder=tmp_path)
    assert made["errors"]["median"] == 0
    assert made["rss_mb"]["median"] > 100
    assert made["calls"]["median"] > 0
