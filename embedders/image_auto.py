"""Items in, their pictures' vectors by any Hugging Face vision model out.

CLIP and SigLIP answer by their image features, which share a space with their text; others by
their trained pooling layer, and where the checkpoint has none (a classifier's, say) by the first
token, since an untrained layer would add random numbers.

`load` prepares one picture at a time, so that only small arrays wait in memory; pictures of equal
prepared shape run together.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedders import torchaudio_cpu
from embedders.base import Embedder
from embedders.checkpoint import load_encoder, quiet, resolve
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.picture import read_picture
from embedders.vectors import Space, normalize

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoImageProcessor, AutoModel  # noqa: E402

Prepared = dict[str, NDArray[Any]]


class AutoImageEmbedder(Embedder):
    """Picture vectors by `AutoModel`."""

    def __init__(
        self,
        *,
        model: str | Path,
        revision: str | None = None,
        batch_size: int = 16,
        trust_remote_code: bool = False,
        device: str = "cpu",
    ) -> None:
        """Load the model and its image processor.

        Args:
            model: A folder or a hub id.
            revision: The hub's commit; none for a folder.
            batch_size: How many pictures run at once; no matter for the result.
            trust_remote_code: Run code that comes with a hub model.
            device: Where to run, as torch names it.

        Raises:
            ValueError: the model is not pinned or lacks weights.
        """
        checkpoint = resolve(model, revision=revision)
        self._encoder = load_encoder(
            checkpoint, AutoModel, device=device, trust_remote_code=trust_remote_code
        )
        with quiet():
            # Pillow's backend: the other one needs torchvision and rounds differently.
            self._processor = AutoImageProcessor.from_pretrained(
                checkpoint.source,
                backend="pil",
                trust_remote_code=trust_remote_code,
                **checkpoint.options,
            )
        self._device = device
        self._batch_size = batch_size
        gray = self._prepare(Image.new("RGB", (64, 64), "gray"))
        self.space = Space(
            modality=Modality.IMAGE,
            encoder=checkpoint.name,
            revision=checkpoint.revision,
            dim=self._run([gray]).shape[1],
            preprocessing=f"upright RGB over white; {type(self._processor).__name__}",
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the picture's file."""
        return None if item.image_path is None else file_digest(item.image_path)

    def load(self, item: Item) -> Prepared:
        """The picture as the model's inputs."""
        assert item.image_path is not None, "load follows a fingerprint"
        return self._prepare(read_picture(item.image_path))

    def encode(self, contents: Sequence[Prepared]) -> NDArray[np.float32]:
        """Prepared pictures -> unit vectors [N, D]."""
        vectors_ND = np.zeros((len(contents), self.space.dim), dtype=np.float32)
        groups: defaultdict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for index, content in enumerate(contents):
            groups[tuple(array.shape for array in content.values())].append(index)
        for rows in groups.values():
            for start in range(0, len(rows), self._batch_size):
                batch = rows[start : start + self._batch_size]
                vectors_ND[batch] = self._run([contents[index] for index in batch])
        return normalize(vectors_ND)

    def _prepare(self, picture: Image.Image) -> Prepared:
        features = self._processor(images=picture, return_tensors="np")
        return {name: np.asarray(array)[0] for name, array in features.items()}

    @torch.inference_mode()
    def _run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        inputs = {
            name: torch.from_numpy(np.stack([content[name] for content in batch])).to(self._device)
            for name in batch[0]
        }
        model = self._encoder.model
        if callable(features := getattr(model, "get_image_features", None)):
            pooled_ND = features(**inputs).pooler_output
        else:
            output = model(**inputs)
            pooled_ND = output.get("pooler_output") if self._encoder.has_pooler else None
            if pooled_ND is None:
                pooled_ND = output.last_hidden_state[:, 0]
        # Convolutional models pool to [N, D, 1, 1].
        return np.asarray(pooled_ND.flatten(1).float().cpu().numpy(), dtype=np.float32)
