"""What two routes made is compared bit by bit, and a difference says what and how much."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sommelier.evaluating.artifacts import _tensors, compare

ONE = np.array([1.0, 2.0], dtype=np.float32)


def test_equal_artifacts_have_no_difference() -> None:
    assert (
        compare("x", {"a": ONE.tobytes(), "b": (1, 2)}, {"b": (1, 2), "a": ONE.tobytes()}) is None
    )


def test_the_last_bit_of_a_float_is_a_difference() -> None:
    other = np.nextafter(ONE, np.float32(9))
    found = compare("x", {"a": ONE.tobytes(), "b": 1}, {"a": other.tobytes(), "b": 1})
    assert found is not None
    assert (found.stage, found.name, found.num_different, found.num_compared) == ("x", "a", 1, 2)
    assert found.detail.startswith("values differ by up to 2.38e-07")


def test_zeros_of_either_sign_are_told_apart() -> None:
    plus, minus = np.zeros(1, np.float32), -np.zeros(1, np.float32)
    assert compare("x", {"a": plus.tobytes()}, {"a": minus.tobytes()}) is not None


def test_what_only_one_has_is_a_difference() -> None:
    found = compare("x", {}, {"a": 1})
    assert found is not None
    assert found.detail == "only one of the two has it"


def test_the_first_place_that_differs_is_named() -> None:
    found = compare("x", {"a": (1, 2, 3)}, {"a": (1, 5, 3)})
    assert found is not None
    assert found.detail == "at place 2: 2 and 5"
    shorter = compare("x", {"a": (1, 2)}, {"a": (1,)})
    assert shorter is not None
    assert shorter.detail == "at place 2: 2 and nothing"


def test_tensors_count_and_what_a_files_header_says_of_itself_does_not(tmp_path: Path) -> None:
    for name, key in (("one", "x"), ("other", "y")):
        (tmp_path / name).mkdir()
        save_file({"w": ONE}, tmp_path / name / "net.safetensors", metadata={"key": key})
    one, other = (_tensors([tmp_path / name / "net.safetensors"]) for name in ("one", "other"))
    assert one["net: w"] == ONE.tobytes()
    assert compare("x", one, other) is None
    save_file({"w": ONE.reshape(1, 2)}, tmp_path / "other" / "net.safetensors")
    reshaped = compare("x", one, _tensors([tmp_path / "other" / "net.safetensors"]))
    assert reshaped is not None
    assert reshaped.name == "net: w, type and shape"
