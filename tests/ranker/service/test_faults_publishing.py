"""Publishing that fails or dies at any of its files: what was published before serves on."""

import errno
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ranker.generation import CURRENT, Generations
from tests.ranker import fault_publisher
from tests.ranker.fault_world import REPOSITORY

NUM_FILES = 6  # written by publishing: two of the index, two of the adapter, manifest and CURRENT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A published generation, and parts of the next one."""
    for name in ("index/rows", "index/facts.json", "adapter/weights", "adapter/lora/weights"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"first" * 20_000)
    fault_publisher.publish(tmp_path)
    (tmp_path / "index/rows").write_bytes(b"second" * 20_000)
    return tmp_path


@contextmanager
def publisher(root: Path, how: str) -> Iterator[Callable[[int], int]]:
    """Publishes with the disk full from the nth file on; gives the publisher's exit code."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.ranker.fault_publisher", str(root), how],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, told = process.stdin, process.stdout

        def publish(nth: int) -> int:
            print(nth, file=given, flush=True)
            return int(told.readline())

        yield publish


@pytest.mark.parametrize(
    ("how", "code"), [("full", errno.ENOSPC), ("killed", -signal.SIGXFSZ)], ids=["full", "killed"]
)
def test_a_publisher_that_cannot_write_a_file_or_dies_at_it_leaves_the_old_generation(
    root: Path, how: str, code: int
) -> None:
    generations = Generations(root / "generations")
    before = (generations.root / CURRENT).read_bytes()
    with publisher(root, how) as publish:
        for nth in range(1, NUM_FILES + 1):
            assert publish(nth) == code, f"file {nth}"
            assert (generations.root / CURRENT).read_bytes() == before
            generations.current().check()
            for generation_id in generations.ids():
                generations.read(generation_id).check()  # what is there is whole
            left = {path.name for path in generations.root.iterdir() if path.name[0] == "."}
            assert not left or how == "killed", "what could not be published takes up no room"
        assert publish(NUM_FILES + 1) == 0
    published = generations.current()
    published.check()
    assert published.generation_id > "g-000001"
    assert (published.index / "rows").read_bytes() == b"second" * 20_000
