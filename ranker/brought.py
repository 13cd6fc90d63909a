"""Vectors that a request brings in, its candidates as the ranker would hold them out.

What a generation fuses once and keeps is here fused for one request: the tokens of the items whose
vectors came along, with what the generation holds of their other blocks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ranker.inline import InlineVectors  # noqa: E402
from ranker.model import RankerModel, tensors  # noqa: E402
from retrieval.brought import exchanged  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A request's candidates."""

    items: ItemVectors
    """All that are held or brought, with what was brought in place."""
    tokens: Mapping[str, Tensor]
    """The fused tokens of each item whose vectors were brought, [T, H]."""


@torch.inference_mode()
def fused(
    model: RankerModel, items: ItemVectors, item_ids: Collection[str], vectors: InlineVectors
) -> Brought:
    """Put vectors in place and fuse what they changed.

    Args:
        model: That will rank.
        items: Of the spaces that it was trained on.
        item_ids: The candidates; vectors of others are left out.
        vectors: What was brought for some of them.

    Raises:
        ValueError: vectors of a space that no block of the items is of.
    """
    shown = exchanged(items, item_ids, vectors.embeddings)
    rows = [row for row, item_id in enumerate(shown.item_ids) if item_id in vectors.item_ids]
    tokens_KTH = model.fuse(*tensors(shown, np.array(rows, dtype=np.int64))).float().cpu()
    names = [shown.item_ids[row] for row in rows]
    return Brought(items=shown, tokens=dict(zip(names, tokens_KTH, strict=True)))
