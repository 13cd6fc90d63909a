"""Importing a room loads no heavy library, and every exported name is there."""

import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("embedders", "feature_repo", "retrieval", "ranker", "evaluation", "sommelier")
HEAVY = frozenset(
    {
        "duckdb",
        "faiss",
        "feast",
        "grpc",
        "pandas",
        "peft",
        "pymilvus",
        "sentence_transformers",
        "torch",
        "torchaudio",
        "transformers",
    }
)
MAX_NAMES = 6
HELP_CPU_S = 2.0


def light_modules() -> list[str]:
    """Rooms, contracts, choosers and nouns: whatever others import only to name a type."""
    names = [*ROOMS]
    for room in ROOMS:
        for file in ("base", "registry"):
            if (REPOSITORY / room / f"{file}.py").is_file():
                names.append(f"{room}.{file}")
    return [
        *names,
        "embedders.items",
        "embedders.vectors",
        "retrieval.candidates",
        "ranker.ranking",
        "ranker.serving",
        "ranker.generation",
        "evaluation.judgements",
        "sommelier.settings",
    ]


def loaded_by(code: str, *, forbidden: frozenset[str] = HEAVY) -> set[str]:
    """The forbidden libraries that a fresh interpreter holds after running `code`."""
    tail = f"\nimport json, sys; print(json.dumps(sorted(set(sys.modules) & {set(forbidden)!r})))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + tail],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", light_modules())
def test_a_room_and_its_nouns_load_no_heavy_library(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_the_client_loads_grpc_and_nothing_else_that_is_heavy() -> None:
    assert loaded_by("import ranker.client") == {"grpc"}


def test_help_loads_no_heavy_library_and_takes_a_moment() -> None:
    code = """
import sys
from sommelier.app import main
sys.argv = ["sommelier", "--help"]
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert loaded_by(code) == set()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < HELP_CPU_S


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_exports_a_few_names_in_order_and_all_exist(room: str) -> None:
    module = importlib.import_module(room)
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(names)
    assert len(names) <= MAX_NAMES
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_introduces_itself_in_one_sentence(room: str) -> None:
    introduction = importlib.import_module(room).__doc__
    assert introduction
    assert introduction.count(".") == 1
