"""Pictures, tunes and words tell their trait, and differ where chance draws differently."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from sommelier.demo.media import (
    SAMPLE_RATE,
    SECONDS,
    SIDE,
    VOCABULARY,
    draw_label,
    play_tune,
    write_words,
)


def test_a_label_is_a_small_picture(tmp_path: Path) -> None:
    draw_label(tmp_path / "a.png", np.random.default_rng(0), 3)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (SIDE, SIDE)


def test_equal_draws_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_label(tmp_path / f"{name}.png", np.random.default_rng(5), 2)
        play_tune(tmp_path / f"{name}.wav", np.random.default_rng(5), 2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_a_tune_is_heard_and_never_clipped(tmp_path: Path) -> None:
    for value in range(len(VOCABULARY)):
        play_tune(tmp_path / "a.wav", np.random.default_rng(value), value)
        samples, rate = soundfile.read(tmp_path / "a.wav")
        assert rate == SAMPLE_RATE
        assert abs(len(samples) / rate - SECONDS) < 0.1
        assert 0.2 < np.abs(samples).max() < 1


def test_only_the_description_tells_the_trait() -> None:
    for value, words in enumerate(VOCABULARY):
        title, description = write_words(np.random.default_rng(value), value)
        assert sum(word in description for word in words) >= 3
        assert not any(word in title.lower() for word in words)
