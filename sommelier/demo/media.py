"""One trait's value in, a picture, a tune or a description out: what the demo shop is made of."""

import colorsys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

SIDE = 96  # pixels
SAMPLE_RATE = 16_000  # Hz
SECONDS = 1.6

ADJECTIVES = (
    "Quiet",
    "Golden",
    "Little",
    "Old",
    "Northern",
    "Velvet",
    "Wandering",
    "Early",
    "Silver",
    "Hidden",
    "Gentle",
    "Seventh",
)
NOUNS = (
    "Cellar",
    "Table",
    "Door",
    "Window",
    "Bridge",
    "Letter",
    "Garden",
    "Lantern",
    "Clock",
    "Harbor",
    "Staircase",
    "Orchard",
)
VOCABULARY = (
    ("lemon", "lime", "grapefruit", "orange peel", "citrus zest", "yuzu", "bergamot"),
    ("smoked oak", "campfire ash", "charred wood", "tobacco", "peat smoke", "glowing embers"),
    ("sea salt", "oyster shell", "ocean spray", "seaweed", "wet pebbles", "coastal wind"),
    ("dark chocolate", "caramel", "vanilla cream", "toffee", "cocoa", "butterscotch"),
    ("pine needles", "forest moss", "wild mushrooms", "fern", "damp earth", "juniper"),
    ("rose petals", "violet", "jasmine", "lavender", "orange blossom", "white flowers"),
    ("black pepper", "chili", "ginger", "cinnamon", "clove", "cumin", "hot spice"),
    ("strawberry", "raspberry", "blackberry", "cherry", "red currant", "blueberry jam"),
)
OPENINGS = (
    "A box that opens with",
    "Chosen for its notes of",
    "Expect a first taste of",
    "Every bottle here speaks of",
    "Made for those who love",
)
CLOSINGS = ("and a finish of", "with a long echo of", "followed by", "and then a hint of")


def draw_label(path: Path, rng: np.random.Generator, value: int) -> None:
    """A PNG label: four palettes x two patterns (stripes, disks) make the eight values."""
    hue = (value % 4) / 4 + rng.normal(0, 0.02)
    y_HW, x_HW = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    if value < 4:
        angle = rng.normal(np.pi / 4, 0.15)
        wave_HW = np.sin(
            2 * np.pi * rng.uniform(4, 6) * (x_HW * np.cos(angle) + y_HW * np.sin(angle))
        )
    else:
        number = rng.uniform(3, 4)
        shift_x, shift_y = rng.uniform(0, 1, 2)
        wave_HW = (
            np.sin(2 * np.pi * (number * x_HW + shift_x))
            * np.sin(2 * np.pi * (number * y_HW + shift_y))
            * 2
            - 0.6
        )
    is_ink_HW = wave_HW > 0
    ink = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.65, 0.9), rng.uniform(0.6, 0.85))
    paper = colorsys.hsv_to_rgb((hue + 0.05) % 1, rng.uniform(0.1, 0.25), rng.uniform(0.9, 1.0))
    pixels_HWC = np.where(is_ink_HW[..., None], ink, paper) * 255
    pixels_HWC = pixels_HWC + rng.normal(0, 6, pixels_HWC.shape)
    Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8)).save(path)


def play_tune(path: Path, rng: np.random.Generator, value: int) -> None:
    """A WAV tune: four registers x two timbres (pure, reedy) make the eight values."""
    base = 110 * 2 ** (value % 4) * 2 ** rng.normal(0, 0.03)  # Hz
    num_harmonics = 2 if value < 4 else 10
    scale = np.array([0, 2, 4, 7, 9])  # pentatonic, in semitones
    num_notes = int(rng.integers(4, 8))
    note_length = int(SECONDS * SAMPLE_RATE / num_notes)
    time = np.arange(note_length) / SAMPLE_RATE
    notes = []
    for semitone in rng.choice(scale, size=num_notes):
        frequency = base * 2 ** (semitone / 12)
        note = np.zeros(note_length)
        for harmonic in range(1, num_harmonics + 1):
            if harmonic * frequency < SAMPLE_RATE / 2:
                note += np.sin(2 * np.pi * harmonic * frequency * time) / harmonic
        notes.append(note * np.exp(-3 * time / time[-1]))
    tune = np.concatenate(notes)
    tune = tune / np.abs(tune).max() * rng.uniform(0.3, 0.8)
    tune += rng.normal(0, 0.002, tune.shape)
    soundfile.write(path, tune.astype(np.float32), SAMPLE_RATE, subtype="PCM_16")


def write_words(rng: np.random.Generator, value: int) -> tuple[str, str]:
    """A title that tells nothing, and a description that tells the value."""
    title = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    first, second, third, fourth, fifth = rng.choice(VOCABULARY[value], size=5, replace=False)
    opening, closing = rng.choice(OPENINGS), rng.choice(CLOSINGS)
    return title, f"{opening} {first}, {second} and {third}, {closing} {fourth} and {fifth}."
