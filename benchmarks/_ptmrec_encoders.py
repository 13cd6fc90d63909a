"""A set in, the encoder that is tuned on it out, and its features while it is frozen.

Titles are read by all-MiniLM-L6-v2, as it was trained by others. There are no such weights for
posters here, so that a small vision transformer is trained on the set's own posters first: of two
random crops of the same poster each is to be told from those of the other posters (SimCLR, Chen et
al., ICML 2020). It has seen no choice, and knows nothing but these posters.
"""

from pathlib import Path

import numpy as np
import torch
from _ptmrec_sets import TuningSet
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, normalize

from embedders import torchaudio_cpu
from embedders.items import Modality
from embedders.registry import EncoderConfig
from embedders.tuning import registry
from embedders.tuning.base import Tunable

torchaudio_cpu.load()

from transformers import ViTConfig, ViTImageProcessorPil, ViTModel  # noqa: E402

SIDE, PATCH, WIDTH, LAYERS = 48, 8, 96, 3
STEPS, BATCH, RATE, TEMPERATURE = 400, 96, 1e-3, 0.1


def open_encoder(of: TuningSet, *, folder: Path, quick: bool = False) -> Tunable:
    """The encoder of a set, without an adapter; the poster encoder is trained where it is not."""
    if not of.name.endswith("_posters"):
        return registry.create(
            EncoderConfig(modality=Modality.TEXT, encoder="minilm", device="cpu", batch_size=64)
        )
    made = folder / ("vit-quick" if quick else "vit")
    if not (made / "config.json").is_file():
        _train(of, made, steps=10 if quick else STEPS)
    return registry.create(
        EncoderConfig(modality=Modality.IMAGE, encoder="auto", model=str(made), device="cpu")
    )


def _train(of: TuningSet, folder: Path, *, steps: int) -> None:
    pixels_N3SS = torch.from_numpy(np.stack([_pixels(item.image_path) for item in of.items]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            intermediate_size=4 * WIDTH,
            image_size=SIDE,
            patch_size=PATCH,
        )
        model = ViTModel(config)
        head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 64))
        optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=RATE)
        for step in range(1, steps + 1):
            rows = torch.randperm(len(pixels_N3SS))[:BATCH]
            views = torch.cat([_cropped(pixels_N3SS[rows]) for _ in range(2)])
            seen = normalize(head(model(pixel_values=views).pooler_output), dim=1)
            scores = seen @ seen.T / TEMPERATURE
            scores.fill_diagonal_(-torch.inf)
            half = len(rows)
            other = torch.cat([torch.arange(half) + half, torch.arange(half)])
            loss = cross_entropy(scores, other)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step % 50 == 0:
                print(f"posters: {step} of {steps}, loss {float(loss.detach()):.3f}", flush=True)
    processor = ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor.save_pretrained(folder)
    model.save_pretrained(folder)


def _pixels(path: Path | None) -> NDArray[np.float32]:
    """A picture, stretched to 4/3 of the side that the encoder reads, from -1 to 1, [3, S, S]."""
    assert path is not None
    side = SIDE * 4 // 3
    with Image.open(path) as picture:
        read = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return (np.asarray(read, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1)


def _cropped(pixels_B3SS: torch.Tensor) -> torch.Tensor:
    """One crop for the whole batch, sometimes mirrored, with light and contrast of its own."""
    side = pixels_B3SS.shape[-1]
    size = int(torch.randint(side // 2, side + 1, ()))
    top, left = (int(torch.randint(0, side - size + 1, ())) for _ in range(2))
    crop = pixels_B3SS[:, :, top : top + size, left : left + size]
    crop = interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True)
    if float(torch.rand(())) < 0.5:
        crop = crop.flip(-1)
    shape = (len(crop), 1, 1, 1)
    return crop * (0.7 + 0.6 * torch.rand(shape)) + 0.4 * (torch.rand(shape) - 0.5)
