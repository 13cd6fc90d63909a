"""The chooser of engines: each can be opened, and what is missing says how to get it."""

import subprocess
import sys

import pytest

from embedders.summaries.config import WriterConfig
from embedders.summaries.registry import INSTALL, open_writer

CONFIGS = {
    "transformers": WriterConfig(engine="transformers", model="nobody/nothing"),
    "openai": WriterConfig(engine="openai", model="any", url="http://127.0.0.1:9/v1", retries=0),
}


def told(code: str) -> str:
    """What a fresh interpreter prints."""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return made.stdout.strip()


def test_the_template_is_no_writer() -> None:
    with pytest.raises(ValueError, match="the template needs no writer"):
        open_writer(WriterConfig())


@pytest.mark.parametrize(("engine", "library"), [("transformers", "torch"), ("openai", "openai")])
def test_a_missing_library_names_itself_and_how_to_install_it(engine: str, library: str) -> None:
    url = ", url='http://127.0.0.1:9/v1'" if engine == "openai" else ""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from embedders.summaries.config import WriterConfig\n"
        "from embedders.summaries.registry import open_writer\n"
        f"config = WriterConfig(engine={engine!r}, model='m'{url})\n"
        "try: open_writer(config)\n"
        "except ImportError as error: print(error)"
    )
    assert told(code) == f"the engine {engine!r} needs {library}: {INSTALL[engine]}"


def test_a_model_that_is_not_pinned_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ValueError, match="nobody/nothing"):
        open_writer(CONFIGS["transformers"])


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/v1"):
        open_writer(CONFIGS["openai"])


def test_whoever_asks_for_no_engine_loads_no_heavy_library() -> None:
    code = (
        "import sys, embedders.summaries.registry, embedders.summaries.item_summary, "
        "embedders.summaries.preference; "
        "print(sorted({'torch', 'transformers', 'openai', 'httpx2', 'PIL'} & set(sys.modules)))"
    )
    assert told(code) == "[]"
