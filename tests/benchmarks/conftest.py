"""The benchmarks' files, found as when one of them runs as a script."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_modules() -> Callable[..., SimpleNamespace]:
    """Imports files of the benchmarks' folder, each given as name=file."""

    def imported(**files: str) -> SimpleNamespace:
        sys.path.insert(0, str(FOLDER))
        try:
            modules: dict[str, ModuleType] = {
                name: importlib.import_module(file) for name, file in files.items()
            }
        finally:
            sys.path.remove(str(FOLDER))
        return SimpleNamespace(**modules)

    return imported
