"""The wheel holds every file of every room, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("embedders", "feature_repo", "retrieval", "ranker", "evaluation", "sommelier")
BUILT = shutil.ignore_patterns("__pycache__", "data")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms, so that building leaves nothing behind in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, source / room, ignore=BUILT)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (REPOSITORY / name).is_file():
            shutil.copy(REPOSITORY / name, source)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    built = tmp_path_factory.mktemp("built")
    pip_wheel = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run(
        [sys.executable, "-m", *pip_wheel, "--wheel-dir", str(built), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_the_wheel_holds_every_file_of_every_room(wheel: zipfile.ZipFile, source: Path) -> None:
    files = (path for room in ROOMS for path in (source / room).rglob("*") if path.is_file())
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {path.relative_to(source).as_posix() for path in files}


def test_the_wheel_carries_its_license_and_one_command(wheel: zipfile.ZipFile) -> None:
    texts = {name.split(".dist-info/")[-1]: wheel.read(name).decode() for name in wheel.namelist()}
    assert "Apache License" in texts["licenses/LICENSE"]
    assert "sommelier = sommelier.app:main" in texts["entry_points.txt"]


def test_the_base_install_asks_for_the_client_alone(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    names = {line.split()[1].split(">")[0].split("<")[0] for line in required}
    assert names == {"googleapis-common-protos", "grpcio", "grpcio-status", "numpy", "protobuf"}
