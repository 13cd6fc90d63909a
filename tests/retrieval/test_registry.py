"""Kinds of index by name."""

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from retrieval.registry import KINDS, create, load


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_is_offered_can_be_created(kind: str) -> None:
    assert create(kind, dim=5).dim == 5


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no index of kind 'annoy'; choose one of exact, flat"):
        create("annoy", dim=3)
    with pytest.raises(ValueError, match="no index of kind 'annoy'"):
        load("annoy", tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])
def test_a_missing_library_names_the_install_line(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    real_import = builtins.__import__

    def without_faiss(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return real_import(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("retrieval.faiss_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(ImportError, match=r"pip install 'sommelier\[retrieve\]'"):
        create(kind, dim=3)
