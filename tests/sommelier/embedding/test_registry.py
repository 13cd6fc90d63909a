"""Settings choose the engine; a missing library is told with the command that installs it."""

import subprocess
import sys

import pytest

from sommelier.embedding.engine_local import LocalEngine
from sommelier.embedding.registry import open_engine
from sommelier.settings import EmbeddingSettings

WITHOUT_RAY = """
import sys
sys.modules["ray"] = None  # as if it were not installed
from sommelier.embedding.registry import open_engine
from sommelier.settings import EmbeddingSettings
try:
    open_engine(EmbeddingSettings(engine="ray"))
except ImportError as error:
    print(error)
"""


def test_this_process_is_the_default() -> None:
    assert isinstance(open_engine(EmbeddingSettings()), LocalEngine)


def test_a_missing_ray_is_told_with_the_command_that_installs_it() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY], capture_output=True, text=True, check=True
    )
    assert "pip install 'sommelier[ray]'" in shown.stdout


@pytest.mark.parametrize(
    ("setting", "value"),
    [("num_workers", -1), ("batch_rows", 0), ("max_deleted_share", 1.5)],
)
def test_impossible_settings_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        EmbeddingSettings(**{setting: value})
