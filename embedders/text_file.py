"""Items in, their texts' vectors by a model file and its tokenizer out.

The folder holds `model.onnx` and `tokenizer.json`, as exported for any framework. Of the inputs
those that a text alone determines are filled: token ids, mask, types and positions.

Shape legend: N items, T tokens, D dimensions.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedders.item_text import RECIPES
from embedders.items import Modality
from embedders.model_file import ModelFile, is_alike, read_model
from embedders.text_tokens import Pooling, TokenEmbedder
from embedders.vectors import Space

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
FILLED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
PROBES = ("a text that is long enough to leave the other one with padding", "a word")


class FileTextEmbedder(TokenEmbedder):
    """Text vectors by a model file."""

    def __init__(
        self,
        model: ModelFile,
        *,
        pooling: Pooling | None = None,
        prefix: str = "",
        query_prefix: str | None = None,
        max_length: int = 256,
        batch_size: int = 32,
        dim: int | None = None,
        modality: Modality = Modality.TEXT,
    ) -> None:
        """Read the tokenizer beside the file, and run two texts.

        Args:
            model: The opened file; its output is [N, T, D], or [N, D] where the file pools.
            pooling: `mean` over the tokens (without it), `cls` the first token, `last` the last
                one; not for a file that pools.
            prefix: Put before each item's text, e.g. `passage: `.
            query_prefix: Put before each query; None takes `prefix`. No part of the space.
            max_length: Tokens after which a text is cut, the prefix and special tokens included.
            batch_size: How many texts run at once; no matter for the result.
            dim: The length that vectors must have; None takes what the file gives.
            modality: Whose text is read: the catalog's, or the summary.

        Raises:
            ValueError: no tokenizer, an input that no text fills, an output that holds no vectors
                or vectors of another length, or an impossible option.
        """
        if pooling is not None and pooling not in get_args(Pooling):
            raise ValueError(f"pooling is one of {get_args(Pooling)}, got {pooling!r}")
        if max_length < 1 or batch_size < 1:
            raise ValueError(
                f"max_length and batch_size are at least 1, got {max_length} and {batch_size}"
            )
        folder = model.path.parent
        self._tokenizer, digest = _open_tokenizer(folder / TOKENIZER_FILE, max_length)
        self._model = model
        self._modality = modality
        self._prefix = prefix
        self._query_prefix = prefix if query_prefix is None else query_prefix
        self._pooling: Pooling | None = pooling
        can_batch = _takes_any_number(model)
        probes = [self._tokens(prefix + text) or [0] for text in PROBES]
        alone_2D = np.concatenate([self._run([tokens]) for tokens in probes])
        is_batched = can_batch and is_alike(self._run(probes), alone_2D)
        self._batch_size = batch_size if is_batched else 1
        self.space = Space(
            modality=modality,
            encoder=folder.resolve().name,
            revision=hashlib.sha256(f"{model.revision} {digest}".encode()).hexdigest(),
            dim=model.check_dim(alone_2D.shape[1], dim),
            preprocessing=(
                f"{RECIPES[modality]}; prefix {prefix!r}; at most {max_length} tokens; "
                f"{self._pooling or 'the file'}'s pooling of output {model.output_number}"
            ),
        )

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def _run(self, batch: Sequence[list[int]]) -> NDArray[np.float32]:
        width = max(len(tokens) for tokens in batch)
        ids_NT = np.zeros((len(batch), width), dtype=np.int64)  # what stands behind is masked
        mask_NT = np.zeros_like(ids_NT)
        for row, tokens in enumerate(batch):
            ids_NT[row, : len(tokens)] = tokens
            mask_NT[row, : len(tokens)] = 1
        filled = {
            "input_ids": ids_NT,
            "attention_mask": mask_NT,
            "token_type_ids": np.zeros_like(ids_NT),
            "position_ids": np.broadcast_to(np.arange(width), ids_NT.shape),
        }
        feeds: dict[str, NDArray[Any]] = {
            tensor.name: np.ascontiguousarray(filled[tensor.name], dtype=tensor.dtype)
            for tensor in self._model.inputs
        }
        return self._pooled(self._model.run(feeds), mask_NT)

    def _pooled(
        self, output: NDArray[np.float32], mask_NT: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        is_pooled = output.ndim == 2 and len(output) == len(mask_NT)
        if is_pooled and self._pooling is None:
            return output
        if output.shape[:-1] != mask_NT.shape:
            raise ValueError(
                f"{self._model.path}: the output {self._model.output} has shape "
                f"{list(output.shape)} for {len(mask_NT)} texts of {mask_NT.shape[1]} tokens; "
                + ("leave `pooling` out" if is_pooled else "choose another `output`")
            )
        self._pooling = self._pooling or "mean"
        return pool(output, mask_NT, self._pooling)


def pool(
    hidden_NTD: NDArray[np.float32], mask_NT: NDArray[np.int64], pooling: Pooling
) -> NDArray[np.float32]:
    """One vector for each text, [N, D].

    Args:
        hidden_NTD: The tokens' vectors.
        mask_NT: 1 at a text's tokens, at least one in a row and none behind a 0.
        pooling: Which tokens count.
    """
    if pooling == "mean":
        # A product would make NaN of whatever a model writes at padding.
        kept_NTD = np.where(mask_NT[..., None] > 0, hidden_NTD, 0)
        return np.asarray(kept_NTD.sum(axis=1) / mask_NT.sum(axis=1, keepdims=True), np.float32)
    places_N = mask_NT.sum(axis=1) - 1 if pooling == "last" else np.zeros(len(mask_NT), np.int64)
    return np.asarray(hidden_NTD[np.arange(len(hidden_NTD)), places_N], np.float32)


def _takes_any_number(model: ModelFile) -> bool:
    """Whether several texts can run at once, padded to one length.

    Raises:
        ValueError: an input that no text fills, or one that is not free in its length.
    """
    names = [tensor.name for tensor in model.inputs]
    if "input_ids" not in names or not {*names} <= {*FILLED}:
        raise ValueError(
            f"{model.path} takes {', '.join(names)}; a text fills {', '.join(FILLED)}, the first "
            "of which is needed: export the encoder alone, without a cache"
        )
    for tensor in model.inputs:
        if len(tensor.shape) != 2 or tensor.shape[0] not in (None, 1) or tensor.shape[1]:
            raise ValueError(
                f"{model.path} takes {tensor}, expected [any, any], texts and their tokens: export "
                "it with free axes"
            )
    # Without a mask, padding would be read.
    return "attention_mask" in names and all(each.shape[0] is None for each in model.inputs)


def _open_tokenizer(path: Path, max_length: int) -> tuple[Any, str]:
    data, digest = read_model(path)
    try:
        tokenizer = Tokenizer.from_str(data.decode())
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} is no tokenizer: save it again ({error})") from error
    return tokenizer, digest
