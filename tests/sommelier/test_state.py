"""Stages note what they made, and a digest tells whether that still holds."""

from pathlib import Path

import pytest

from sommelier.state import State, digest


def test_a_stage_that_has_not_run_noted_nothing(tmp_path: Path) -> None:
    assert State(tmp_path / "new").read("train") == {}


def test_notes_are_kept_apart_by_stage(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    state.write("train", {"key": "a"})
    state.write("index", {"key": "b"})
    state.write("train", {"key": "c"})
    assert State(tmp_path / "new").read("train") == {"key": "c"}
    assert State(tmp_path / "new").read("index") == {"key": "b"}


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.path.write_text("{")
    with pytest.raises(ValueError, match="delete it and run the stages again"):
        state.read("train")


def test_a_digest_tells_facts_and_their_borders_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(b"x", 1) == digest(b"x", 1)
    assert digest(1.0) != digest(1)
