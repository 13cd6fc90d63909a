"""What is sent of a prompt: its words as they are, its files made anew."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedders.base import BadContent
from embedders.items import Modality
from embedders.summaries.base import Prompt, Unwritten
from embedders.summaries.messages import LIMIT_S, RATE, SIDE_PX, messages, plain_question
from tests.embedders import tiny


def prompt(**given: Any) -> Prompt:
    return Prompt(instruction="Summarize.", text="wine", **given)


def parts(of: Prompt, **form: bool) -> list[dict[str, Any]]:
    """The user's turn, in parts."""
    return messages(of, **form)[-1]["content"]


def shown(part: dict[str, Any]) -> Image.Image:
    kind, _, data = part["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_bounded_and_keeps_its_shape(tmp_path: Path) -> None:
    tiny.picture(1, width=3 * SIDE_PX, height=SIDE_PX).save(tmp_path / "a.png")
    picture = shown(parts(prompt(images=(tmp_path / "a.png",)))[0])
    assert picture.format == "JPEG"
    assert picture.mode == "RGB"
    assert picture.size == (SIDE_PX, round(SIDE_PX / 3))


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    original = tiny.picture(1)
    original.save(tmp_path / "a.png")
    picture = shown(parts(prompt(images=(tmp_path / "a.png",)))[0])
    assert picture.size == original.size
    difference = np.asarray(picture, dtype=float) - np.asarray(original, dtype=float)
    assert np.abs(difference).mean() < 8


def test_what_a_camera_noted_is_obeyed_and_stays_at_home(tmp_path: Path) -> None:
    noted = Image.Exif()
    noted[0x0112] = 6  # lies on its side
    noted[0x010E] = "taken at home"
    tiny.picture(1, width=48, height=36).save(tmp_path / "a.jpg", exif=noted)
    part = parts(prompt(images=(tmp_path / "a.jpg",)))[0]
    assert shown(part).size == (36, 48)
    assert not shown(part).getexif()
    assert b"at home" not in base64.b64decode(part["image_url"]["url"].partition(",")[2])


def test_a_sound_is_one_channel_at_one_rate_and_bounded(tmp_path: Path) -> None:
    sound = np.stack([tiny.sound(1, seconds=40.0, rate=8_000)] * 2, axis=1)
    soundfile.write(tmp_path / "a.flac", sound, 8_000)
    part = parts(prompt(sounds=(tmp_path / "a.flac",)))[0]
    assert part["input_audio"]["format"] == "wav"
    sent = io.BytesIO(base64.b64decode(part["input_audio"]["data"]))
    samples, rate = soundfile.read(sent, always_2d=True)
    assert rate == RATE
    assert samples.shape == (LIMIT_S * RATE, 1)


def test_the_same_files_are_sent_as_the_same_bytes(tmp_path: Path) -> None:
    tiny.picture(1).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", tiny.sound(1, seconds=0.5), RATE)
    asked = prompt(images=(tmp_path / "a.png",), sounds=(tmp_path / "a.wav",))
    assert messages(asked) == messages(asked)


@pytest.mark.parametrize("modality", ["images", "sounds"])
def test_a_file_that_is_none_is_said_to(tmp_path: Path, modality: str) -> None:
    with pytest.raises(BadContent, match="absent"):
        messages(prompt(**{modality: (tmp_path / "absent",)}))


@pytest.mark.parametrize("name", ["instruction", "text"])
def test_half_a_character_cannot_be_sent(name: str) -> None:
    words = {"instruction": "a", "text": "b", name: "wine \ud83c"}
    with pytest.raises(Unwritten, match="not valid Unicode at character 5"):
        messages(Prompt(**words))


def test_words_alone_are_one_string_and_the_instruction_may_stand_before_them() -> None:
    system = {"role": "system", "content": "Summarize."}
    assert messages(prompt()) == [system, {"role": "user", "content": "wine"}]
    together = {"role": "user", "content": "Summarize.\n\nwine"}
    assert messages(prompt(), has_system=False) == [together]


def test_a_plain_question_shows_what_it_is_to_show() -> None:
    assert isinstance(plain_question()[-1]["content"], str)
    question = plain_question(shows=(Modality.IMAGE, Modality.AUDIO))
    assert question == plain_question(shows={Modality.AUDIO, Modality.IMAGE})
    kinds = [part["type"] for part in question[-1]["content"]]
    assert kinds == ["image_url", "input_audio", "text"]
    assert [turn["role"] for turn in plain_question(has_system=False)] == ["user"]
