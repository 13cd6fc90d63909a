"""Items in, their texts' vectors by any Hugging Face encoder or decoder out.

Padding is put on the right whatever the tokenizer prefers: then the positions of a text's tokens,
and with them its vector, are those of the text alone, also for models with absolute positions.

Shape legend: N items, T tokens, D dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.base import BadContent, Embedder
from embedders.checkpoint import load_encoder, quiet, resolve
from embedders.item_text import RECIPE, item_text, text_digest
from embedders.items import Item, Modality
from embedders.vectors import Space, normalize

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402

Pooling = Literal["mean", "cls", "last"]


class AutoTextEmbedder(Embedder):
    """Text vectors by `AutoModel`, pooled over the tokens."""

    def __init__(
        self,
        *,
        model: str | Path,
        revision: str | None = None,
        pooling: Pooling = "mean",
        prefix: str = "",
        max_length: int = 256,
        batch_size: int = 32,
        trust_remote_code: bool = False,
        device: str = "cpu",
    ) -> None:
        """Load the model and its tokenizer.

        Args:
            model: A folder or a hub id.
            revision: The hub's commit; none for a folder.
            pooling: `mean` over the tokens, `cls` the first token (BERT as trained for it),
                `last` the last token (decoders, which only there have seen the whole text).
            prefix: Put before each text.
            max_length: Tokens after which a text is cut, the prefix and special tokens included;
                the model's own limit where that is lower.
            batch_size: How many texts run at once; no matter for the result.
            trust_remote_code: Run code that comes with a hub model.
            device: Where to run, as torch names it.

        Raises:
            ValueError: an unknown pooling, or a model that is not pinned or lacks weights.
        """
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling is one of {get_args(Pooling)}, got {pooling!r}")
        checkpoint = resolve(model, revision=revision)
        loaded = load_encoder(
            checkpoint, AutoModel, device=device, trust_remote_code=trust_remote_code
        )
        with quiet():
            self._tokenizer = AutoTokenizer.from_pretrained(
                checkpoint.source, trust_remote_code=trust_remote_code, **checkpoint.options
            )
        self._model = loaded.model
        self._device = device
        self._pooling: Pooling = pooling
        self._prefix = prefix
        self._batch_size = batch_size
        self._max_length = min(
            max_length,
            self._tokenizer.model_max_length,
            getattr(self._model.config, "max_position_embeddings", max_length),
        )
        self.space = Space(
            modality=Modality.TEXT,
            encoder=checkpoint.name,
            revision=checkpoint.revision,
            dim=self._run([[0]]).shape[1],
            preprocessing=(
                f"{RECIPE}; prefix {prefix!r}; at most {self._max_length} tokens; {pooling} pooling"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the item's text."""
        return text_digest(item)

    def load(self, item: Item) -> list[int]:
        """The item's text as token ids, cut to the length limit.

        Raises:
            BadContent: the tokenizer knows nothing of the text.
        """
        tokens = self._tokens(item_text(item))
        if not tokens:
            raise BadContent(
                f"item {item.item_id!r}: the tokenizer leaves no token of its text; write a title "
                "in a script that the model knows"
            )
        return tokens

    def encode(self, contents: Sequence[list[int]]) -> NDArray[np.float32]:
        """Token ids -> unit vectors [N, D]."""
        vectors_ND = np.zeros((len(contents), self.space.dim), dtype=np.float32)
        # Longest first: little padding, and a batch too large for memory fails at once.
        order = sorted(range(len(contents)), key=lambda index: -len(contents[index]))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            vectors_ND[batch] = self._run([contents[index] for index in batch])
        return normalize(vectors_ND)

    def _tokens(self, text: str) -> list[int]:
        encoded = self._tokenizer(self._prefix + text, truncation=True, max_length=self._max_length)
        return list(encoded["input_ids"])

    @torch.inference_mode()
    def _run(self, batch: Sequence[list[int]]) -> NDArray[np.float32]:
        width = max(len(tokens) for tokens in batch)
        # The id under the padding is never attended to, so that any serves.
        padding = self._tokenizer.pad_token_id or 0
        ids_NT = torch.full((len(batch), width), padding, dtype=torch.long)
        mask_NT = torch.zeros_like(ids_NT)
        for row, tokens in enumerate(batch):
            ids_NT[row, : len(tokens)] = torch.tensor(tokens)
            mask_NT[row, : len(tokens)] = 1
        output: Any = self._model(
            input_ids=ids_NT.to(self._device), attention_mask=mask_NT.to(self._device)
        )
        pooled_ND = pool(output.last_hidden_state.cpu(), mask_NT, self._pooling)
        return np.asarray(pooled_ND.float().numpy(), dtype=np.float32)


def pool(hidden_NTD: torch.Tensor, mask_NT: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector for each text, [N, D], whatever side its padding is on.

    Args:
        hidden_NTD: The last layer's output.
        mask_NT: 1 at a text's tokens, at least one in a row; 0 at padding.
        pooling: Which tokens count.
    """
    if pooling == "mean":
        weights_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTD.dtype)
        return (hidden_NTD * weights_NT1).sum(dim=1) / weights_NT1.sum(dim=1)
    if pooling == "cls":
        position_N = mask_NT.argmax(dim=1)
    else:
        position_N = mask_NT.shape[1] - 1 - mask_NT.flip(1).argmax(dim=1)
    return hidden_NTD[torch.arange(len(hidden_NTD)), position_N]
