"""All items' vectors in, their fused tokens out, ready for the store: online, no fusion is left.

The tokens live in a space of their own, whose revision is the adapter's: tokens of two adapters
never meet. An item of which every modality is absent has tokens too, made of the learned absent
vectors. Fusion alone is read from an adapter for it: the LLM stays where it is.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.items import Modality  # noqa: E402
from embedders.vectors import Embeddings, Space  # noqa: E402
from ranker.adapter_facts import AdapterError, AdapterFacts, read_facts  # noqa: E402
from ranker.fusion import Fusion  # noqa: E402
from ranker.model import WEIGHTS, RankerModel, tensors  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402

BLOCK = 16_384  # items fused in one pass, at most
BLOCK_BYTES = 1 << 27  # what their tokens may take

Fuse = Callable[[Sequence[Tensor], Tensor], Tensor]


def fused_space(adapter: Path) -> Space:
    """The space of the tokens that this adapter makes, from its facts alone.

    Raises:
        AdapterError: there is no adapter.
    """
    facts = read_facts(adapter)
    digest = hashlib.sha256()
    for path in sorted(adapter.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(adapter).as_posix().encode() + path.read_bytes())
    return Space(
        modality=None,
        encoder="tokens",
        revision=digest.hexdigest()[:12],
        dim=facts.config.fusion.num_tokens * _hidden_size(facts, adapter),
        preprocessing=" ".join(space.space_id for space in facts.spaces),
        is_normalized=False,
    )


def fuse(adapter: Path, items: ItemVectors, *, rows: Sequence[int] | None = None) -> Embeddings:
    """Items' tokens, flattened, [N, K * H], in the order of `rows`; None for every item.

    Raises:
        AdapterError: no adapter, a damaged one, or one trained on other spaces than the items'.
    """
    space = fused_space(adapter)
    return _joined(blocks(adapter, items, rows=rows), space)


def blocks(
    adapter: Path, items: ItemVectors, *, rows: Sequence[int] | None = None
) -> Iterator[Embeddings]:
    """The same piece by piece, each of bounded memory; an item's tokens depend on it alone.

    Raises:
        AdapterError: as in `fuse`.
    """
    facts, space = read_facts(adapter), fused_space(adapter)
    check_spaces(facts, items)
    return _blocks(_fusion(facts, adapter), items, rows=rows, space=space)


def fuse_with(model: RankerModel, items: ItemVectors, *, space: Space) -> Embeddings:
    """Every item's tokens by a loaded model."""
    check_spaces(model, items)
    return _joined(_blocks(model.fuse, items, rows=None, space=space), space)


def check_spaces(trained_on: RankerModel | AdapterFacts, items: ItemVectors) -> None:
    """Refuse vectors of other spaces than the model was trained on."""
    trained = [space.space_id for space in trained_on.spaces]
    given = [space.space_id for space in items.spaces]
    if trained != given:
        raise AdapterError(
            f"the adapter was trained on {trained}, but the vectors are of {given}: run "
            f"`sommelier train`, or embed with the former encoders"
        )


def _fusion(facts: AdapterFacts, adapter: Path) -> Fuse:
    """The adapter's own fusion, without its LLM."""
    try:
        weights = load_file(adapter / WEIGHTS)
        with torch.random.fork_rng():
            fusion = Fusion(
                {Modality(space.modality): space.dim for space in facts.spaces if space.modality},
                hidden_size=_hidden_size(facts, adapter),
                config=facts.config.fusion,
            )
        own = {key: value for key, value in weights.items() if key.startswith("fusion.")}
        fusion.load_state_dict({key.removeprefix("fusion."): own[key] for key in own})
        scale = weights["scale"]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise AdapterError(f"{adapter} is damaged ({error}): run `sommelier train`") from error
    fusion.eval()

    def scaled(vectors: Sequence[Tensor], is_present_NM: Tensor) -> Tensor:
        tokens_NKH: Tensor = fusion(vectors, is_present_NM) * scale
        return tokens_NKH

    return scaled


@torch.inference_mode()
def _blocks(
    fuse: Fuse, items: ItemVectors, *, rows: Sequence[int] | None, space: Space
) -> Iterator[Embeddings]:
    places = np.arange(len(items)) if rows is None else np.asarray(rows, dtype=np.int64)
    size = min(BLOCK, max(1, BLOCK_BYTES // (4 * space.dim)))
    for first in range(0, len(places), size):
        block = places[first : first + size]
        tokens_NKH = fuse(*tensors(items, block))
        yield Embeddings(
            space=space,
            item_ids=[items.item_ids[row] for row in block],
            vectors_ND=tokens_NKH.flatten(1).float().cpu().numpy(),
        )


def _joined(parts: Iterator[Embeddings], space: Space) -> Embeddings:
    item_ids: list[str] = []
    vectors: list[NDArray[np.float32]] = [np.zeros((0, space.dim), dtype=np.float32)]
    for part in parts:
        item_ids += part.item_ids
        vectors.append(part.vectors_ND)
    return Embeddings(space=space, item_ids=tuple(item_ids), vectors_ND=np.concatenate(vectors))


def _hidden_size(facts: AdapterFacts, adapter: Path) -> int:
    width = facts.training.get("hidden_size")
    if width is None:
        raise AdapterError(f"{adapter} states no hidden_size: run `sommelier train`")
    return int(width)
