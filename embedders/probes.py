"""An embedder in, its vectors of a few fixed items out: the proof that it is still the same one.

A space names weights and preparation, but a declared revision can lie, a library can change its
arithmetic, and another machine can hold other files. So a space keeps the vectors of some texts,
pictures and sounds that never change, and whoever embeds into it makes them anew and compares.

The items are made by arithmetic alone, byte for byte the same everywhere: texts of several scripts
and lengths, pictures without loss, sounds of 16 bit.

Shape legend: K probes, D dimensions.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.vectors import Embeddings

# Another machine's arithmetic stays above it, other weights fall below: of MiniLM's probes every
# one keeps 0.9999 in bfloat16, and weights that are 1% off bring the first one down to 0.998.
LEAST_COSINE = 0.999

TEXTS = {
    "word": "Wine",
    "latin": "A tall glass of red wine, with bread and old cheese.",
    "digits": "No. 7: 3.5 mm, 220-240 V, 2x USB-C (1999)",
    "accents": "Crème brûlée à l'été, größer als ein Fußball; ¿mañana?",
    "cyrillic": "Красное вино и свежий хлеб",
    "greek": "Κόκκινο κρασί και ψωμί",
    "arabic": "خبز ونبيذ أحمر",
    "hebrew": "לחם ויין אדום",  # noqa: RUF001
    "devanagari": "लाल शराब और ताज़ी रोटी",
    "han": "红酒配面包和陈年奶酪",
    "kana": "赤ワインとパンのおいしいたべかた",
    "emoji": "🍷🍞🧀 party!",
    "long": "The old tower stands above the town, and every night a song is heard. " * 40,
}
PICTURES = {"gradient": (64, 64), "stripes": (96, 48), "noise": (48, 80), "rings": (300, 220)}
SOUNDS = {"tone": 0.5, "sweep": 1.0, "noise": 0.7, "beats": 2.6}  # seconds
RATE = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What an encoder made of the probe items when its space was begun, or last repaired."""

    item_ids: tuple[str, ...]
    vectors_KD: NDArray[np.float32]
    created: datetime
    """Rows written before it were made by other weights and have to be made again."""


def probe(embedder: Embedder) -> Embeddings | None:
    """The vectors that an embedder makes of the probes of its modality, by the probes' order.

    A probe that the encoder cannot use (a script that it has no token for) is left out. None for
    vectors that are looked up: they were made elsewhere.
    """
    if embedder.is_looked_up:
        return None
    with TemporaryDirectory(prefix="sommelier-probes-") as folder:
        embeddings, _ = embedder.embed(items(embedder.space.modality, Path(folder)))
    return embeddings


def agree(stored: Probes, now: Embeddings) -> bool:
    """Whether an encoder still makes the vectors that it once made.

    Another choice of probes, or one of them that is no longer (or only now) accepted, proves
    nothing, so it does not agree.
    """
    if tuple(stored.item_ids) != tuple(now.item_ids):
        return False
    if stored.vectors_KD.shape != now.vectors_ND.shape:
        return False
    return bool((cosines(stored, now) >= LEAST_COSINE).all())


def cosines(stored: Probes, now: Embeddings) -> NDArray[np.float64]:
    """The cosine of each probe's two vectors, [K]; of two vectors of zeros it is 1."""
    then_KD = stored.vectors_KD.astype(np.float64)
    now_KD = now.vectors_ND.astype(np.float64)
    lengths_K = np.linalg.norm(then_KD, axis=1) * np.linalg.norm(now_KD, axis=1)
    is_same_K = (then_KD == now_KD).all(axis=1)
    products_K = (then_KD * now_KD).sum(axis=1)
    found: NDArray[np.float64] = np.where(
        is_same_K, 1.0, products_K / np.where(lengths_K > 0, lengths_K, 1)
    )
    return found


def items(modality: Modality | None, folder: Path) -> list[Item]:
    """The probes of one modality; pictures and sounds are written into the folder."""
    match modality:
        case Modality.TEXT:
            return [Item(item_id=f"probe-{name}", title=text) for name, text in TEXTS.items()]
        case Modality.SUMMARY:
            return [
                Item(item_id=f"probe-{name}", title=name, summary=text)
                for name, text in TEXTS.items()
            ]
        case Modality.IMAGE:
            for name, (width, height) in PICTURES.items():
                (folder / f"{name}.png").write_bytes(_png(_pixels(name, width, height)))
            return [
                Item(item_id=f"probe-{name}", title=name, image_path=folder / f"{name}.png")
                for name in PICTURES
            ]
        case Modality.AUDIO:
            for name, seconds in SOUNDS.items():
                (folder / f"{name}.wav").write_bytes(_wav(_samples(name, int(seconds * RATE))))
            return [
                Item(item_id=f"probe-{name}", title=name, audio_path=folder / f"{name}.wav")
                for name in SOUNDS
            ]
    return []


def _noise(name: str, num_bytes: int) -> NDArray[np.uint8]:
    # A digest, since numpy may change its generators' streams.
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(num_bytes), dtype=np.uint8)


def _pixels(name: str, width: int, height: int) -> NDArray[np.uint8]:
    """[height, width, 3], by whole numbers alone."""
    y_H1, x_1W = np.arange(height)[:, None], np.arange(width)[None, :]
    plane = np.zeros((height, width), dtype=np.int64)
    match name:
        case "gradient":
            channels = (255 * x_1W // width + plane, 255 * y_H1 // height + plane, plane + 90)
        case "stripes":
            channels = ((x_1W // 6 % 2) * 255 + plane, (y_H1 // 8 % 3) * 100 + plane, plane + 30)
        case "noise":
            return _noise(name, height * width * 3).reshape(height, width, 3)
        case _:
            rings = ((x_1W - width // 2) ** 2 + (y_H1 - height // 3) ** 2) // 400 % 256
            channels = (rings, 255 - rings, (rings * 7 + x_1W) % 256)
    return np.stack(channels, axis=-1).astype(np.uint8)


def _samples(name: str, num_samples: int) -> NDArray[np.int16]:
    """16-bit samples; rounding hides what sines differ by between machines."""
    time_T = np.arange(num_samples) / RATE
    match name:
        case "tone":
            wave_T = np.sin(2 * np.pi * 440 * time_T) + 0.4 * np.sin(2 * np.pi * 1320 * time_T)
        case "sweep":
            wave_T = np.sin(2 * np.pi * (100 + 1900 * time_T) * time_T)
        case "noise":
            wave_T = _noise(name, num_samples).astype(np.float64) / 127.5 - 1
        case _:
            wave_T = np.sin(2 * np.pi * 180 * time_T) * (time_T * 4 % 1 < 0.3)
    return np.asarray(np.round(wave_T / np.abs(wave_T).max() * 20_000), dtype=np.int16)


def _png(pixels_HW3: NDArray[np.uint8]) -> bytes:
    """8-bit RGB without filters: every reader gives the same pixels."""
    height, width, _ = pixels_HW3.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels_HW3)

    def chunk(kind: bytes, body: bytes) -> bytes:
        framed = kind + body
        return struct.pack(">I", len(body)) + framed + struct.pack(">I", zlib.crc32(framed))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _wav(samples_T: NDArray[np.int16]) -> bytes:
    """One channel of 16-bit PCM."""
    body = samples_T.astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
