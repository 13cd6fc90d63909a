"""Items in, their texts' vectors by any Hugging Face encoder or decoder out.

Padding is put on the right whatever the tokenizer prefers: then the positions of a text's tokens,
and with them its vector, are those of the text alone, also for models with absolute positions.

Shape legend: N items, T tokens, D dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, get_args

from embedders import torchaudio_cpu
from embedders.auto_embedder import AutoEmbedder
from embedders.checkpoint import CheckpointOptions
from embedders.item_text import RECIPES
from embedders.items import Modality
from embedders.text_tokens import Pooling, TokenEmbedder, positions

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


class AutoTextEmbedder(AutoEmbedder, TokenEmbedder):
    """Text vectors by `AutoModel`, pooled over the tokens."""

    rows_per_batch = 1024
    reads_tokens = True

    def __init__(
        self,
        *,
        model: str | Path,
        pooling: Pooling = "mean",
        prefix: str = "",
        query_prefix: str | None = None,
        max_length: int = 256,
        batch_size: int = 32,
        modality: Modality = Modality.TEXT,
        **checkpoint: Unpack[CheckpointOptions],
    ) -> None:
        """Load the model and its tokenizer.

        Args:
            model: A folder or a hub id.
            pooling: `mean` over the tokens, `cls` the first token (BERT as trained for it),
                `last` the last token (decoders, which only there have seen the whole text).
            prefix: Put before each item's text, e.g. `passage: `.
            query_prefix: Put before each query, e.g. `Instruct: <task>\\nQuery: `; None takes
                `prefix`. No part of the space: the items' vectors are the same.
            max_length: Tokens after which a text is cut, the prefix and special tokens included;
                the model's own limit where that is lower.
            batch_size: How many texts run at once; no matter for the result.
            modality: Whose text is read: the catalog's, or the summary.
            checkpoint: Revision, precision, device and the like, as in `CheckpointOptions`.

        Raises:
            ValueError: an unknown pooling, or a model that is not pinned, lacks weights, or has
                not the length declared.
        """
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling is one of {get_args(Pooling)}, got {pooling!r}")
        encoder = self._open(model, checkpoint)
        self._tokenizer = encoder.companion(AutoTokenizer)
        self._modality = modality
        self._pooling: Pooling = pooling
        self._prefix = prefix
        self._query_prefix = prefix if query_prefix is None else query_prefix
        self._batch_size = batch_size
        self._max_length = min(
            max_length, self._tokenizer.model_max_length, positions(self.network)
        )
        # The first call sets the tokenizer's limit: so that threads share it unchanged.
        self._tokens("")
        self.space = encoder.space(
            modality,
            dim=self._run([[0]]).shape[1],
            preprocessing=(
                f"{RECIPES[modality]}; prefix {prefix!r}; at most {self._max_length} tokens; "
                f"{pooling} pooling"
            ),
        )

    def probe(self) -> list[int]:
        """One token."""
        return [0]

    def reserve(self, num_tokens: int) -> None:
        """Texts are cut so much earlier where the model has no positions to spare."""
        self._max_length = min(self._max_length, positions(self.network) - num_tokens)
        self._tokens("")

    def _tokens(self, text: str) -> list[int]:
        encoded = self._tokenizer(text, truncation=True, max_length=self._max_length)
        return list(encoded["input_ids"])

    def forward(self, contents: Sequence[list[int]]) -> torch.Tensor:
        """Token ids -> unit vectors [N, D] with gradients."""
        return torch.nn.functional.normalize(self._pooled(contents), dim=1)

    def _pooled(self, batch: Sequence[list[int]]) -> torch.Tensor:
        width = max(len(tokens) for tokens in batch)
        # The id under the padding is never attended to, so that any serves.
        padding = self._tokenizer.pad_token_id or 0
        ids_NT = torch.full((len(batch), width), padding, dtype=torch.long)
        mask_NT = torch.zeros_like(ids_NT)
        for row, tokens in enumerate(batch):
            ids_NT[row, : len(tokens)] = torch.tensor(tokens)
            mask_NT[row, : len(tokens)] = 1
        ids_NT, mask_NT = ids_NT.to(self._encoder.device), mask_NT.to(self._encoder.device)
        output: Any = self._encoder.model(input_ids=ids_NT, attention_mask=mask_NT)
        return pool(output.last_hidden_state, mask_NT, self._pooling)


def pool(hidden_NTD: torch.Tensor, mask_NT: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One float32 vector for each text, [N, D], whatever side its padding is on.

    Args:
        hidden_NTD: The last layer's output.
        mask_NT: 1 at a text's tokens, at least one in a row; 0 at padding.
        pooling: Which tokens count.
    """
    if pooling == "mean":
        weights_NT1 = mask_NT.unsqueeze(-1).float()
        return (hidden_NTD.float() * weights_NT1).sum(dim=1) / weights_NT1.sum(dim=1)
    if pooling == "cls":
        position_N = mask_NT.argmax(dim=1)
    else:
        position_N = mask_NT.shape[1] - 1 - mask_NT.flip(1).argmax(dim=1)
    rows_N = torch.arange(len(hidden_NTD), device=hidden_NTD.device)
    return hidden_NTD[rows_N, position_N].float()
