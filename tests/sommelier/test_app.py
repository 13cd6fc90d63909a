"""The command answers at once, and says what it lacks."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "peft", "feast", "duckdb", "faiss", "grpc", "pandas", "pyarrow"}
COMMANDS = (
    *("init", "embed", "materialize", "train", "index", "publish", "serve"),
    *("generations", "rollback"),
    *("recommend", "rerank", "evaluate", "doctor", "demo"),
)
CPU_S = 1.0
ASK = """
import sys
sys.argv = ["sommelier", *{words!r}]
from sommelier.app import main
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
loaded = sorted(set(sys.modules) & {heavy!r})
assert not loaded, loaded
"""


def run(code: str, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["demo", "--help"]])
def test_help_comes_at_once_and_loads_nothing_heavy(words: list[str], repository: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(ASK.format(words=words, heavy=HEAVY), repository)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent_s < CPU_S


def test_help_lists_every_command(repository: Path) -> None:
    done = run(ASK.format(words=["--help"], heavy=HEAVY), repository)
    assert [name for name in COMMANDS if f" {name} " not in done.stdout] == []


def test_without_typer_the_message_says_what_to_install(repository: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from sommelier.app import main; main()"
    done = run(code, repository)
    assert done.returncode == 1
    assert done.stderr == "the command line needs typer: pip install 'sommelier[all]'\n"


def test_a_fault_of_our_own_is_no_missing_library(repository: Path) -> None:
    code = (
        "import sys; sys.modules['sommelier.effort'] = None; from sommelier.app import main; main()"
    )
    done = run(code, repository)
    assert "Traceback" in done.stderr
