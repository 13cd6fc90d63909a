"""torchaudio imports without CUDA's libraries, and is left alone where it imports by itself."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run(code: str, *, first: Path | None = None) -> str:
    """What a fresh interpreter prints; `first` goes before all other folders of modules."""
    path = "" if first is None else f"import sys; sys.path.insert(0, {str(first)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", path + code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def package(folder: Path, *, init: str, extension: str = "") -> Path:
    """A small package that is called torchaudio, like the real one in how it is built."""
    (folder / "torchaudio" / "_extension").mkdir(parents=True)
    (folder / "torchaudio" / "__init__.py").write_text(init)
    (folder / "torchaudio" / "_extension" / "__init__.py").write_text(extension)
    (folder / "torchaudio" / "filters.py").write_text(
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "align = fail_if_no_align(lambda: 'aligned')\n"
    )
    return folder


def test_models_and_filter_banks_work_after_it() -> None:
    code = """
from embedders import torchaudio_cpu
torchaudio_cpu.load()
torchaudio_cpu.load()
import torch
from torchaudio.compliance.kaldi import fbank
from transformers import ASTFeatureExtractor, AutoModelForCausalLM
print(tuple(fbank(torch.ones(1, 1600)).shape), ASTFeatureExtractor().feature_size)
"""
    assert run(code) == "(8, 23) 1"


def test_an_extension_that_does_not_load_is_replaced_by_a_note_of_its_absence(
    tmp_path: Path,
) -> None:
    broken = package(
        tmp_path,
        init="from torchaudio import _extension, filters\n",
        extension="import torchaudio._extension\nraise OSError('libcudart.so.13')\n",
    )
    code = """
from embedders.torchaudio_cpu import torchaudio
print(torchaudio.filters._IS_TORCHAUDIO_EXT_AVAILABLE)
try:
    torchaudio.filters.align()
except RuntimeError as error:
    print("install a torchaudio built for" in str(error))
"""
    assert run(code, first=broken).split() == ["False", "True"]


def test_a_torchaudio_that_imports_by_itself_is_left_alone(tmp_path: Path) -> None:
    whole = package(
        tmp_path,
        init="from torchaudio import _extension, filters\n",
        extension="_IS_TORCHAUDIO_EXT_AVAILABLE = True\nfail_if_no_align = lambda f: f\n",
    )
    code = """
from embedders.torchaudio_cpu import torchaudio
print(torchaudio.filters.align(), torchaudio._extension.__file__ is not None)
"""
    assert run(code, first=whole).split() == ["aligned", "True"]


def test_another_failure_of_torchaudio_is_not_hidden(tmp_path: Path) -> None:
    wrong = package(tmp_path, init="raise RuntimeError('built for another torch')\n")
    code = """
from embedders import torchaudio_cpu
try:
    torchaudio_cpu.load()
except RuntimeError as error:
    print(error)
"""
    assert run(code, first=wrong) == "built for another torch"


def test_where_torchaudio_is_not_installed_nothing_happens() -> None:
    code = """
import sys
from embedders import torchaudio_cpu
sys.path = [path for path in sys.path if "site-packages" not in path]
torchaudio_cpu.load()
try:
    from embedders.torchaudio_cpu import torchaudio
except ImportError:
    print("missing")
"""
    assert run(code) == "missing"


def test_an_unknown_name_is_no_attribute() -> None:
    assert run("from embedders import torchaudio_cpu as t; print(hasattr(t, 'torch'))") == "False"
