"""A model file in, the checks that every runtime passes out.

A test class inherits `ModelFileContract` and gives the fixtures `open_file` and `save`.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.model_file import ModelFile

Open = Callable[..., ModelFile]
Save = Callable[[Path, NDArray[np.float32], list[int | None]], Path]

WEIGHTS_PD = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
X_NP = np.random.default_rng(6).standard_normal((3, 6)).astype(np.float32)


class ModelFileContract:
    """What every runtime promises."""

    @pytest.fixture
    def open_file(self) -> Open:
        """A path and options -> the opened file."""
        raise NotImplementedError

    @pytest.fixture
    def save(self) -> Save:
        """Path, weights [P, D], the input's shape with None for any length -> a file of x @ w."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path, save: Save) -> Path:
        """A file that takes rows of 6 in any number and gives rows of 4."""
        return save(tmp_path / "net.model", WEIGHTS_PD, [None, 6])

    def test_it_tells_its_input_its_output_and_its_digest(
        self, open_file: Open, path: Path
    ) -> None:
        model = open_file(path)

        assert (model.path, model.input.name, model.output.shape[-1]) == (path, "x", 4)
        assert model.input.shape == (None, 6)
        assert np.dtype(model.input.dtype) == np.float32
        assert model.revision == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_pass_gives_the_known_answer(self, open_file: Open, path: Path) -> None:
        found = open_file(path).run({"x": X_NP[:1]})

        assert found.dtype == np.float32
        np.testing.assert_allclose(found, X_NP[:1] @ WEIGHTS_PD, atol=1e-5)

    def test_any_number_of_rows_can_run_and_the_next_number_too(
        self, open_file: Open, path: Path
    ) -> None:
        model = open_file(path)

        for num_rows in (3, 1, 2):
            found = model.run({"x": X_NP[:num_rows]})
            np.testing.assert_allclose(found, X_NP[:num_rows] @ WEIGHTS_PD, atol=1e-5)

    def test_an_output_is_the_callers_own(self, open_file: Open, path: Path) -> None:
        model = open_file(path)

        first = model.run({"x": X_NP[:1]})
        kept = first.copy()
        model.run({"x": X_NP[1:2]})

        np.testing.assert_array_equal(first, kept)

    def test_threads_may_run_it_at_once(self, open_file: Open, path: Path) -> None:
        model = open_file(path, num_threads=1)
        expected = X_NP @ WEIGHTS_PD

        def run(row: int) -> NDArray[np.float32]:
            return model.run({"x": X_NP[row : row + 1]})[0]

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run, [0, 1, 2] * 100))

        np.testing.assert_allclose(found, np.tile(expected, (100, 1)), atol=1e-5)

    def test_the_number_of_threads_does_not_matter(self, open_file: Open, path: Path) -> None:
        one, two = (open_file(path, num_threads=each).run({"x": X_NP}) for each in (1, 2))

        np.testing.assert_allclose(one, two, atol=1e-6)

    def test_rows_of_another_length_are_refused_with_their_shape(
        self, open_file: Open, path: Path
    ) -> None:
        model = open_file(path)

        with pytest.raises(ValueError, match=r"net\.model cannot be run with x \[1, 5\]"):
            model.run({"x": X_NP[:1, :5]})
        assert model.run({"x": X_NP[:1]}).shape == (1, 4)

    def test_an_output_that_is_not_there_is_named(self, open_file: Open, path: Path) -> None:
        for output in ("nose", "99"):
            with pytest.raises(ValueError, match=rf"has no tensors '{output}': .* such as \d+: 'y"):
                open_file(path, output=output)

    def test_a_missing_file_is_told(self, open_file: Open, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"gone\.model cannot be read .*: correct `model`"):
            open_file(tmp_path / "gone.model")
        with pytest.raises(ValueError, match="cannot be read"):
            open_file(tmp_path)

    @pytest.mark.parametrize("seed", range(4))
    def test_random_bytes_are_no_model(self, open_file: Open, tmp_path: Path, seed: int) -> None:
        path = tmp_path / "noise.model"
        path.write_bytes(np.random.default_rng(seed).bytes(2000 * seed))

        with pytest.raises(ValueError, match=r"noise\.model is no .* model that can be run, or is"):
            open_file(path)

    def test_half_a_file_is_no_model(self, open_file: Open, path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

        with pytest.raises(ValueError, match=r"is no .* model that can be run, or is damaged"):
            open_file(path)
