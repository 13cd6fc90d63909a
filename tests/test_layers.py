"""The rooms' order, the tree's shape and the files' sizes, held by machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("embedders", "feature_repo", "retrieval", "ranker", "evaluation", "sommelier")
FOLDERS = (*ROOMS, ".ci", "benchmarks", "docs", "infra", "proto", "tests")
MAX_LINES = 350
MAX_TEST_LINES = 550  # a test file stands for exactly one file, so it cannot be split
# Folders of one machine, and addresses of package indexes: neither means anything elsewhere.
FOREIGN = re.compile(
    r"/(?:work|root|opt)/|file:///(?!mnt/)|[\w.-]*pypi[\w.-]*\.\w+/simple|find-links"
)


def files(*suffixes: str) -> Iterator[Path]:
    """The project's own text files, generated code and caches left out."""
    roots = [path for path in REPOSITORY.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        roots += (path for path in (REPOSITORY / folder).rglob("*") if path.is_file())
    for path in sorted(roots):
        is_ours = "__pycache__" not in path.parts and "_pb2" not in path.name
        if is_ours and (path.suffix in suffixes or not suffixes):
            yield path


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def top_level_imports(path: Path) -> set[str]:
    """The libraries that importing the file imports; none where there is no such file."""
    if not path.is_file():
        return set()
    names: set[str] = set()
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_a_room_imports_only_rooms_that_an_item_has_already_passed() -> None:
    lint_imports = (
        "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())"
    )
    run = subprocess.run(
        [sys.executable, "-c", lint_imports, "--no-cache", "--no-logo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_file_of_a_room_is_installed() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = set(pyproject["tool"]["setuptools"]["packages"])
    folders = {
        relative(path.parent).replace("/", ".")
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*.py")
    }
    assert folders == packages


WHOLE_ROUTES = {  # what no single file promises
    "tests/embedders/summaries/test_served.py",
    "tests/evaluation/test_resume.py",
    "tests/feature_repo/test_feast_traps.py",
    "tests/feature_repo/test_point_in_time.py",
    "tests/feature_repo/test_production.py",
    "tests/feature_repo/test_reader_down.py",
    "tests/feature_repo/test_texts_served.py",
    "tests/ranker/service/test_anytime.py",
    "tests/ranker/service/test_faults_calls.py",
    "tests/ranker/service/test_faults_generations.py",
    "tests/ranker/service/test_faults_network.py",
    "tests/ranker/service/test_faults_processes.py",
    "tests/ranker/service/test_faults_publishing.py",
    "tests/ranker/service/test_faults_store.py",
    "tests/ranker/service/test_fuzzing.py",
    "tests/ranker/service/test_generations_under_load.py",
    "tests/ranker/test_determinism.py",
    "tests/sommelier/test_production.py",
    "tests/sommelier/test_resume.py",
    "tests/sommelier/test_summaries_route.py",
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_test_file_stands_for_one_file_of_its_room(room: str) -> None:
    tests = REPOSITORY / "tests"
    orphans = [
        relative(test)
        for test in (tests / room).rglob("test_*.py")
        if not (REPOSITORY / test.relative_to(tests).with_name(test.name[5:])).is_file()
    ]
    assert set(orphans) <= WHOLE_ROUTES


def test_no_file_is_too_long_to_be_read_at_one_sitting() -> None:
    too_long = {}
    for path in files(".py"):
        length = len(path.read_text().splitlines())
        if length > (MAX_TEST_LINES if relative(path).startswith("tests/") else MAX_LINES):
            too_long[relative(path)] = length
    assert not too_long


@pytest.mark.parametrize("folder", [*ROOMS, "benchmarks", "infra"])
def test_every_module_says_in_its_first_line_what_passes_through(folder: str) -> None:
    silent = [
        relative(path)
        for path in files(".py")
        if relative(path).startswith(f"{folder}/") and ast.get_docstring(parsed(path)) is None
    ]
    assert not silent


def test_the_list_of_heavy_files_names_only_files_that_are_heavy() -> None:
    lint = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    heavy = set(lint["flake8-tidy-imports"]["banned-module-level-imports"])
    listed = [name for name in lint["per-file-ignores"] if "*" not in name]
    assert [name for name in listed if not heavy & top_level_imports(REPOSITORY / name)] == []


def test_no_file_names_a_folder_of_one_machine_or_a_package_index() -> None:
    named = []
    for path in files():
        if path.suffix in {".png", ".jpg", ".ogg", ".wav", ".parquet"}:
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if FOREIGN.search(line) and path != Path(__file__):
                named.append(f"{relative(path)}:{number}: {line.strip()}")
    assert not named


def test_the_lock_pins_one_version_of_each_package_and_no_accelerator() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith(("nvidia", "cuda", "triton"))] == []
