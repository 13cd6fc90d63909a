"""A folder in, a tiny real checkpoint, picture or sound in it out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import BPE, WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel, Whitespace  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402
from tokenizers.trainers import BpeTrainer  # noqa: E402
from transformers import PreTrainedModel, PreTrainedTokenizerFast  # noqa: E402

from embedders.checkpoint import quiet  # noqa: E402
from embedders.items import Item  # noqa: E402

WORDS = "the a red blue wine bread cheese of and with old young tower song night . , :".split()  # noqa: SIM905
TITLES = (
    "the red wine",
    "a blue song of the night and the old tower with bread , cheese and young wine",
    "bread",
    "old cheese : young wine",
    "the tower of the night",
    "a song",
)


def save(model: PreTrainedModel, folder: Path) -> Path:
    """A model as a checkpoint's folder."""
    with quiet():
        model.save_pretrained(folder)
    return folder


def seeded(build: Callable[[], PreTrainedModel], *, seed: int = 7) -> PreTrainedModel:
    """A model with weights that are random, large enough to matter, and always the same."""
    torch.manual_seed(seed)
    model = build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def save_words(folder: Path) -> int:
    """A word-level tokenizer with [CLS] and [SEP] around a text -> the size of its vocabulary."""
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=40
    ).save_pretrained(folder)
    return len(vocabulary)


def save_bytes(folder: Path, *, is_ended: bool = False) -> int:
    """A byte-level BPE as decoders have: pads on the left, frames nothing, has no unknown token.

    It knows the bytes of the titles alone, so that of other scripts it leaves no token. One that
    ends each text itself does so with the padding's token, as Qwen3-Embedding's does.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=60, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(TITLES, trainer)
    if is_ended:
        tokenizer.post_processor = TemplateProcessing(
            single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", padding_side="left"
    ).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def text_items() -> list[Item]:
    return [Item(item_id=f"t{n}", title=title) for n, title in enumerate(TITLES)]


def picture(seed: int, *, width: int = 48, height: int = 36) -> Image.Image:
    """A few colored rectangles."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), random.integers(0, 256, 3), dtype=np.uint8)
    for _ in range(4):
        left, top = random.integers(0, width - 8), random.integers(0, height - 8)
        pixels[top : top + 16, left : left + 16] = random.integers(0, 256, 3)
    return Image.fromarray(pixels)


def image_items(folder: Path) -> list[Item]:
    """Pictures of several sizes and formats."""
    items = []
    for n, suffix in enumerate(("png", "jpg", "webp", "gif", "bmp", "png")):
        path = folder / f"picture{n}.{suffix}"
        picture(n, width=40 + 8 * n, height=64 - 6 * n).save(path)
        items.append(Item(item_id=f"i{n}", title="", image_path=path))
    return items


def sound(seed: int, *, seconds: float, rate: int = 16_000) -> NDArray[np.float32]:
    """A few tones with their own attack over a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    samples = 0.01 * random.standard_normal(len(time))
    for frequency in random.uniform(100, 3000, 3):
        samples += 0.2 * np.sin(2 * np.pi * frequency * time) * np.exp(-time * random.uniform(0, 9))
    return samples.astype(np.float32)


def audio_items(folder: Path) -> list[Item]:
    """Sounds of several lengths, rates, channels and formats, one longer than short windows."""
    items = []
    shapes = [
        (0.5, 16_000, "wav"),
        (0.5, 8_000, "wav"),
        (0.9, 44_100, "flac"),
        (0.5, 16_000, "ogg"),
    ]
    for n, (seconds, rate, suffix) in enumerate([*shapes, (2.6, 16_000, "wav")]):
        path = folder / f"sound{n}.{suffix}"
        samples = sound(n, seconds=seconds, rate=rate)
        soundfile.write(path, np.stack([samples] * (1 + n % 2), axis=1), rate)
        items.append(Item(item_id=f"a{n}", title="", audio_path=path))
    return items
