"""Values of rounds in, figures out: a table for people, JSON for whoever compares them.

A figure is the median of its rounds with the lowest and the highest. Times are CPU seconds of the
process on one thread, so that other processes of the machine disturb them little; what is compared
is measured in turns within one process, and only ratios of one round are reported.
"""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Figure = dict[str, float]

WIDTH = 110  # of a table in a pipe
DATA = Path(__file__).parents[2] / "shared" / "data"
"""Beside the repository, unless the variable SOMMELIER_SHARED_DATA names another folder."""


def parser(about: str) -> ArgumentParser:
    """What every benchmark is asked: how many rounds, and where the figures go."""
    options = ArgumentParser(description=about)
    options.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return options


def data_folder(name: str = "") -> Path:
    """The folder of all data sets, or of one of them; a benchmark ends where there is none."""
    folder = Path(os.environ.get("SOMMELIER_SHARED_DATA") or DATA) / name
    if not folder.is_dir():
        sys.exit(f"no folder {folder}: set SOMMELIER_SHARED_DATA to where the data sets lie")
    return folder


def figure(values: Sequence[float]) -> Figure:
    """The median of the rounds, and between what they lay."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def cpu_seconds(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """The CPU time that the work took, and what it returned."""
    began = time.process_time()
    made = work(*given)
    return time.process_time() - began, made


def publish(
    title: str,
    figures: Mapping[str, Figure],
    meanings: Mapping[str, str],
    *,
    file: Path | None,
    packages: Sequence[str],
) -> None:
    """Print the figures, and write them where a file is named.

    Args:
        title: What was measured.
        figures: By name.
        meanings: What each figure is, in words; the same names.
        file: Where to write; None only prints.
        packages: Whose versions belong to the result.
    """
    table = Table("figure", "median", "low", "high", "meaning", title=title, title_justify="left")
    for name, one in figures.items():
        table.add_row(name, *(f"{one[part]:.4g}" for part in one), meanings[name])
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    if file is not None:
        facts = {
            "figures": figures,
            "machine": machine(),
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in packages},
            },
            "command": shlex.join(["python", *sys.argv]),
        }
        file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What it was measured on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "system": platform.system(),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
