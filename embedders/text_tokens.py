"""Items in, their texts as token ids in batches by length out: what encoders of tokens share.

Shape legend: N items, D dimensions.
"""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.item_text import item_text, text_digest
from embedders.items import Item, Modality
from embedders.vectors import normalize

Pooling = Literal["mean", "cls", "last"]


class TokenEmbedder(Embedder):
    """Text vectors of token ids; an implementation says how it tokenizes and how it runs."""

    _modality: Modality = Modality.TEXT
    _prefix: str
    _query_prefix: str
    _batch_size: int

    @abstractmethod
    def _tokens(self, text: str) -> list[int]:
        """A text's token ids, cut to the length limit; empty where nothing is known of it."""

    @abstractmethod
    def _run(self, batch: Sequence[list[int]]) -> NDArray[np.float32]:
        """One vector for each row of token ids, [N, D], whatever the padding."""

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the item's text."""
        return text_digest(item, self._modality)

    def load(self, item: Item) -> list[int]:
        """The item's text as token ids, cut to the length limit.

        Raises:
            BadContent: the tokenizer knows nothing of the text.
        """
        tokens = self._tokens(self._prefix + item_text(item, self._modality))
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

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts that are searched with -> unit vectors [N, D] in the items' space.

        Raises:
            ValueError: the tokenizer leaves no token of a text.
        """
        tokens = [self._tokens(self._query_prefix + text) for text in texts]
        for text, found in zip(texts, tokens, strict=True):
            if not found:
                raise ValueError(f"the tokenizer leaves no token of the query {text!r}")
        return self.encode(tokens)


def positions(network: Any) -> int:
    """How many tokens of a text a network has positions for; no limit where it states none."""
    stated = getattr(network.config, "max_position_embeddings", None)
    if stated is None:
        return sys.maxsize
    # RoBERTa counts its positions from behind the padding's id.
    padding = getattr(getattr(network, "embeddings", None), "padding_idx", None)
    behind = 0 if padding is None else int(padding) + 1
    return int(stated) - behind - int(getattr(network, "num_virtual_tokens", 0))
