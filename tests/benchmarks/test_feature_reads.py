"""The benchmark of feature reads runs, small, and writes figures that can be compared."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "feature_reads.py"
TINY = ("--items", "60", "--candidates", "20", "--rounds", "1")


def test_both_sides_answer_alike_and_every_figure_is_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run = subprocess.run(  # it compares the answers itself
        [sys.executable, str(SCRIPT), *TINY, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    made = json.loads(file.read_text())
    assert set(made["figures"]) >= {"cold_vs_to_dict", "warm_vs_to_dict"}
    for name, figure in made["figures"].items():
        assert 0 < figure["low"] <= figure["median"] <= figure["high"], name
    assert set(made["versions"]) == {"python", "feast", "numpy"}
    assert "cold_vs_to_dict" in run.stdout
