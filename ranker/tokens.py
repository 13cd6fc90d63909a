"""All items' vectors in, their fused tokens out, ready for the store: online, no fusion is left.

The tokens live in a space of their own, whose revision is the adapter's: tokens of two adapters
never meet. An item of which every modality is absent has tokens too, made of the learned absent
vectors.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.vectors import Embeddings, Space  # noqa: E402
from ranker import model as models  # noqa: E402
from ranker.adapter_facts import AdapterError, read_facts  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402

BLOCK = 4096  # items fused in one pass


def fused_space(adapter: Path) -> Space:
    """The space of the tokens that this adapter makes, from its facts alone."""
    facts = read_facts(adapter)
    digest = hashlib.sha256()
    for path in sorted(adapter.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(adapter).as_posix().encode() + path.read_bytes())
    width = facts.training.get("hidden_size")
    if width is None:
        raise AdapterError(f"{adapter} states no hidden_size: run `sommelier train`")
    return Space(
        modality=None,
        encoder="tokens",
        revision=digest.hexdigest()[:12],
        dim=facts.config.fusion.num_tokens * int(width),
        preprocessing=" ".join(space.space_id for space in facts.spaces),
        is_normalized=False,
    )


def fuse(adapter: Path, items: ItemVectors) -> Embeddings:
    """Every item's tokens, flattened, [N, K * H], in the order of `items`.

    Raises:
        AdapterError: no adapter, or one trained on other spaces than the items'.
    """
    return fuse_with(models.load(adapter), items, space=fused_space(adapter))


def fuse_with(model: RankerModel, items: ItemVectors, *, space: Space) -> Embeddings:
    """The same by a loaded model."""
    check_spaces(model, items)
    parts = list(_blocks(model, items))
    empty = np.zeros((0, space.dim), dtype=np.float32)
    return Embeddings(
        space=space, item_ids=items.item_ids, vectors_ND=np.concatenate([empty, *parts])
    )


def check_spaces(model: RankerModel, items: ItemVectors) -> None:
    """Refuse vectors of other spaces than the model was trained on."""
    trained = [space.space_id for space in model.spaces]
    given = [space.space_id for space in items.spaces]
    if trained != given:
        raise AdapterError(
            f"the adapter was trained on {trained}, but the vectors are of {given}: run "
            f"`sommelier train`, or embed with the former encoders"
        )


@torch.inference_mode()
def _blocks(model: RankerModel, items: ItemVectors) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(items), BLOCK):
        vectors, is_present_NM = models.tensors(items, slice(first, first + BLOCK))
        yield model.fuse(vectors, is_present_NM).flatten(1).numpy()
