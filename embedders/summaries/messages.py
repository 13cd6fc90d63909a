"""A prompt in, the messages of a chat completion out.

Pictures travel as JPEG, sounds as WAV, both made anew from what was decoded here: whatever else a
file holds, such as a place or a second picture, stays at home. A server gets no path and no
address to fetch.
"""

import base64
import io
from collections.abc import Collection

import numpy as np
import soundfile
from numpy.typing import NDArray
from openai.types.chat import (
    ChatCompletionContentPartInputAudioParam,
    ChatCompletionContentPartParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionMessageParam,
)
from openai.types.chat.chat_completion_content_part_image_param import (
    ChatCompletionContentPartImageParam,
)
from PIL import Image

from embedders.items import Modality
from embedders.picture import read_picture
from embedders.summaries.base import Prompt, Unwritten
from embedders.waveform import read_waveform

SIDE_PX = 1024  # of the longer side; more only costs tokens, and servers shrink by themselves
QUALITY = 90  # of a JPEG
RATE = 16_000  # Hz, as most models that hear were trained
LIMIT_S = 30.0  # the middle so many seconds: the window of the encoders that most of them have
SHORTEST_S = 0.1

HOW_SHOWN = {Modality.IMAGE: f"jpeg{QUALITY}:{SIDE_PX}", Modality.AUDIO: f"wav{RATE}:{LIMIT_S:g}"}


def messages(prompt: Prompt, *, has_system: bool = True) -> list[ChatCompletionMessageParam]:
    """The system's turn, then the user's: its pictures, its sounds, its text.

    Words alone are sent as one string, since templates of models that only read take nothing else.

    Args:
        prompt: What is asked.
        has_system: False puts the instruction before the text, for templates that know no system's
            turn, such as LLaVA-1.6's.

    Raises:
        BadContent: a file is no picture or sound.
        Unwritten: the text is not valid Unicode.
    """
    for text in (prompt.instruction, prompt.text):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Unwritten(f"not valid Unicode at character {error.start}") from error
    pictures = [_picture(read_picture(path, wanted_px=SIDE_PX)) for path in prompt.images]
    sounds = [
        _sound(read_waveform(path, rate=RATE, shortest_s=SHORTEST_S, limit_s=LIMIT_S))
        for path in prompt.sounds
    ]
    return _turns(prompt.instruction, prompt.text, [*pictures, *sounds], has_system=has_system)


def plain_question(
    *, shows: Collection[Modality] = (), has_system: bool = True
) -> list[ChatCompletionMessageParam]:
    """What every server answers that answers prompts of this shape at all.

    Args:
        shows: A gray picture stands for pictures, a tone for sounds.
        has_system: As of `messages`.
    """
    parts: list[ChatCompletionContentPartParam] = []
    if Modality.IMAGE in shows:
        parts.append(_picture(Image.new("RGB", (224, 224), "gray")))
    if Modality.AUDIO in shows:
        parts.append(_sound(np.sin(np.arange(RATE) * (2 * np.pi * 440 / RATE)) / 2))
    return _turns("Answer in one word.", "Say yes.", parts, has_system=has_system)


def _turns(
    instruction: str,
    text: str,
    parts: list[ChatCompletionContentPartParam],
    *,
    has_system: bool,
) -> list[ChatCompletionMessageParam]:
    text = text if has_system else f"{instruction}\n\n{text}"
    words: ChatCompletionContentPartTextParam = {"type": "text", "text": text}
    user: ChatCompletionMessageParam = {
        "role": "user",
        "content": [*parts, words] if parts else text,
    }
    return [{"role": "system", "content": instruction}, user] if has_system else [user]


def _picture(picture: Image.Image) -> ChatCompletionContentPartImageParam:
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _sound(samples: NDArray[np.floating]) -> ChatCompletionContentPartInputAudioParam:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
