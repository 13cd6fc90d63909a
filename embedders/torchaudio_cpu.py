"""A torchaudio that fails to load in, one that imports without its compiled extension out.

torchaudio's wheel links its extension to CUDA. On a machine without CUDA `import torchaudio`
raises OSError, and transformers, peft and sentence-transformers import it unguarded, so every
model of theirs fails with it. The package itself runs without the extension: filter banks,
resampling and filters work; RNN-T loss and forced alignment do not, and say so when called.

A leaf that imports any of the four libraries begins with

    from embedders import torchaudio_cpu

    torchaudio_cpu.load()

    import transformers  # noqa: E402

The call, not the import, does the work: no linter removes it or sorts the imports across it.
`from embedders.torchaudio_cpu import torchaudio` does both in one line.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

NAME = "torchaudio"
EXTENSION = "torchaudio._extension"


def load() -> None:
    """Make `import torchaudio` succeed where it is installed; leave it alone where it does.

    Where torchaudio is not installed nothing happens: the other libraries then do without it.
    """
    if NAME in sys.modules or find_spec(NAME) is None:
        return
    try:
        importlib.import_module(NAME)
    except OSError:
        # What the failed import left behind would be found half-made by the next one.
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]
        sys.modules[EXTENSION] = _absent_extension()
        importlib.import_module(NAME)


def _absent_extension() -> ModuleType:
    """The names that torchaudio reads from its extension, all saying that there is none."""

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(
            "this torchaudio runs without its compiled extension, which needs CUDA's libraries; "
            "install a torchaudio built for this machine's torch to use forced alignment"
        )

    module = ModuleType(EXTENSION)
    module.__spec__ = ModuleSpec(EXTENSION, loader=None)  # find_spec refuses a module without one
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    module._check_cuda_version = lambda: None  # type: ignore[attr-defined]
    module._load_lib = refuse  # type: ignore[attr-defined]
    module.fail_if_no_align = lambda _function: refuse  # type: ignore[attr-defined]
    return module


def __getattr__(name: str) -> ModuleType:
    """`torchaudio`, loaded on first use.

    Raises:
        ModuleNotFoundError: torchaudio is not installed.
    """
    if name != NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load()
    return importlib.import_module(NAME)
