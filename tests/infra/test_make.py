"""The Makefile and CI's script say what they would do, without doing it."""

import os
import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> str:
    run = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_make_alone_lists_every_target_that_is_meant_for_people() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    listed = re.findall(r"^  make (\S+)", make(), re.MULTILINE)
    assert listed == re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)
    assert {"demo", "test", "check", "protos", "bench", "install", "clean"} <= set(listed)


def test_the_wire_is_checked_for_its_style_and_its_generated_code() -> None:
    commands = make("--dry-run", "check")
    assert "buf lint proto" in commands
    assert "grpc_tools.protoc -I proto" in commands


def test_the_demo_passes_on_only_what_was_asked() -> None:
    assert "sommelier demo --out 'build/demo'\n" in make("--dry-run", "demo")
    asked = make("--dry-run", "demo", "OUT=here", "DATA=../films", "EFFORT=quick")
    assert "sommelier demo --out 'here' --catalog '../films' --effort 'quick'" in asked


def test_a_fresh_environment_is_made_and_installed_by_the_lock() -> None:
    commands = make("--dry-run", "install", "VENV=build/nowhere")
    assert "-m venv build/nowhere" in commands
    assert "pip install -q -e '.[all,dev]' -c requirements.lock" in commands


def test_the_script_of_ci_is_executable_and_parses() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
