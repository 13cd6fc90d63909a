"""An adapter's folder is pinned by what it holds, and refused where it cannot be used."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from embedders.adapter import CONFIG, TUNING, WEIGHTS, facts, resolve

BASE = "0" * 64
CUT = datetime(2026, 3, 1, tzinfo=UTC)


def adapter(folder: Path, config: dict[str, Any] | None = None, **tuning: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, **(config or {})}))
    save_file({"one": np.ones(3, dtype=np.float32)}, folder / WEIGHTS)
    if tuning:
        (folder / TUNING).write_text(json.dumps(tuning))
    return folder


def test_the_revision_is_of_both_files_and_of_nothing_else(tmp_path: Path) -> None:
    one, same = adapter(tmp_path / "one"), adapter(tmp_path / "same")
    (same / "README.md").write_text("of no matter")
    other_words = adapter(tmp_path / "words", {"r": 4})
    other_weights = adapter(tmp_path / "weights")
    save_file({"one": np.zeros(3, dtype=np.float32)}, other_weights / WEIGHTS)
    revisions = [
        resolve(folder, name="minilm", revision=BASE).revision
        for folder in (one, same, other_words, other_weights)
    ]
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3


def test_a_missing_folder_and_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; `sommelier tune-encoders` writes one"):
        resolve(tmp_path / "gone", name="minilm", revision=BASE)
    folder = adapter(tmp_path / "pickled")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"weights in adapter_model.bin are never read"):
        resolve(folder, name="minilm", revision=BASE)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    folder = adapter(tmp_path / "damaged")
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"adapter_config.json cannot be read"):
        resolve(folder, name="minilm", revision=BASE)


def test_a_configuration_of_megabytes_is_not_read(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "large", {"target_modules": ["x" * 2_000_000]})
    with pytest.raises(ValueError, match="larger than 1,048,576 bytes"):
        resolve(folder, name="minilm", revision=BASE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "OFT"}, "its method is 'OFT', known are LORA, IA3"),
        ({"peft_type": None}, "its method is None"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9}, "allowed are 0 to 1000"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": "4"}, "num_virtual_tokens is '4'"),
    ],
)
def test_unknown_methods_and_absurd_numbers_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = adapter(tmp_path / "odd", config)
    with pytest.raises(ValueError, match=message):
        resolve(folder, name="minilm", revision=BASE)


def test_an_adapter_for_other_weights_is_refused(tmp_path: Path) -> None:
    tuning = facts(name="minilm", revision=BASE, method="lora", until=CUT)
    folder = adapter(tmp_path / "one", **tuning)
    found = resolve(folder, name="minilm", revision=BASE)
    assert found.until == CUT
    with pytest.raises(ValueError, match=f"made for minilm of revision {BASE}, and would be put"):
        resolve(folder, name="minilm", revision="1" * 64)


def test_the_hubs_name_and_commit_are_compared_where_both_sides_have_them(tmp_path: Path) -> None:
    noted = {"base_model_name_or_path": "org/model", "revision": "a" * 40}
    folder = adapter(tmp_path / "strange", noted)
    assert resolve(folder, name="org/model", revision="a" * 40).until is None
    with pytest.raises(ValueError, match="made for org/model of revision aaaa"):
        resolve(folder, name="org/model", revision="b" * 40)
    assert resolve(folder, name="minilm", revision=BASE)  # the same weights, for all we know


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"format": 1}, "does not say what it was made for"),
        ({"base": {"name": "m", "revision": BASE}, "until": "soon"}, "until = 'soon'"),
        ({"base": {"name": "m", "revision": BASE}, "until": "2026-01-01"}, "no time zone"),
    ],
)
def test_a_damaged_tuning_file_is_named(
    tmp_path: Path, tuning: dict[str, Any], message: str
) -> None:
    folder = adapter(tmp_path / "one", **tuning)
    with pytest.raises(ValueError, match=message):
        resolve(folder, name="m", revision=BASE)
