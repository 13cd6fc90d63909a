"""Items in, their pictures' vectors by any Hugging Face vision model out.

CLIP and SigLIP answer by their image features, which share a space with their text; others by
their trained pooling layer, and where the checkpoint has none (a classifier's, say) by the first
token, since an untrained layer would add random numbers.

`load` prepares one picture at a time, so that only small arrays wait in memory; pictures of equal
prepared shape run together.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedders import torchaudio_cpu
from embedders.auto_embedder import AutoEmbedder
from embedders.checkpoint import CheckpointOptions, Prepared
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.picture import read_picture
from embedders.vectors import normalize

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoImageProcessor  # noqa: E402


class AutoImageEmbedder(AutoEmbedder):
    """Picture vectors by `AutoModel`."""

    rows_per_batch = 128  # a prepared picture is 0.6 MB

    def __init__(
        self,
        *,
        model: str | Path,
        batch_size: int = 16,
        **checkpoint: Unpack[CheckpointOptions],
    ) -> None:
        """Load the model and its image processor.

        Args:
            model: A folder or a hub id.
            batch_size: How many pictures run at once; no matter for the result.
            checkpoint: Revision, precision, device and the like, as in `CheckpointOptions`.

        Raises:
            ValueError: the model is not pinned, lacks weights, or has not the length declared.
        """
        encoder = self._open(model, checkpoint)
        # Pillow's backend: the other one needs torchvision and rounds differently.
        self._processor = encoder.companion(AutoImageProcessor, backend="pil")
        self._batch_size = batch_size
        self.space = encoder.space(
            Modality.IMAGE,
            dim=self._run([self.probe()]).shape[1],
            preprocessing=f"upright RGB over white; {type(self._processor).__name__}",
        )

    def probe(self) -> Prepared:
        """A gray picture."""
        return self._prepare(Image.new("RGB", (64, 64), "gray"))

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
        for batch in self._batches(contents):
            vectors_ND[batch] = self._run([contents[index] for index in batch])
        return normalize(vectors_ND)

    def forward(self, contents: Sequence[Prepared]) -> torch.Tensor:
        """Prepared pictures -> unit vectors [N, D] with gradients."""
        batches = list(self._batches(contents))
        parts = [self._pooled([contents[index] for index in batch]) for batch in batches]
        order = torch.tensor([index for batch in batches for index in batch]).argsort()
        vectors_ND = torch.cat(parts)[order.to(parts[0].device)]
        return torch.nn.functional.normalize(vectors_ND, dim=1)

    def _batches(self, contents: Sequence[Prepared]) -> Iterator[list[int]]:
        """The pictures that run together, by their place."""
        groups: defaultdict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for index, content in enumerate(contents):
            groups[tuple(array.shape for array in content.values())].append(index)
        for rows in groups.values():
            for start in range(0, len(rows), self._batch_size):
                yield rows[start : start + self._batch_size]

    def _prepare(self, picture: Image.Image) -> Prepared:
        features = self._processor(images=picture, return_tensors="np")
        return {name: np.asarray(array)[0] for name, array in features.items()}

    def _pooled(self, batch: Sequence[Prepared]) -> torch.Tensor:
        inputs, model = self._encoder.inputs(batch), self._encoder.model
        if callable(features := getattr(model, "get_image_features", None)):
            pooled_ND = features(**inputs).pooler_output
        else:
            output = model(**inputs)
            pooled_ND = output.get("pooler_output") if self._encoder.has_pooler else None
            if pooled_ND is None:
                pooled_ND = output.last_hidden_state[:, 0]
        # Convolutional models pool to [N, D, 1, 1].
        vectors_ND: torch.Tensor = pooled_ND.flatten(1).float()
        return vectors_ND
