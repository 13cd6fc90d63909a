"""Queries, keys and values in, attention over a shared prefix and ragged branches out.

All candidates stand in one sequence behind one prefix. A branch's query attends to the whole
prefix and, causally, to its own branch; the two parts are merged by their log-sum-exp:

    o = o1 + (o2 - o1) * sigmoid(l2 - l1)

which equals one softmax over both (the cascade of Hydragen, arXiv 2402.05099, and FlashInfer).
Registered with Hugging Face's `AttentionInterface`, so that every architecture built on it can be
packed without a rewrite. A layer that needs a window or a soft cap is refused, never miscomputed.

Shape legend: B batch, A query heads, G groups (key heads), T tokens, S tokens of a branch,
P prefix tokens, E head dimensions.
"""

from dataclasses import dataclass
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel  # noqa: E402

NAME = "sommelier_packed"
ATTENDING = {"full_attention", "sliding_attention"}  # kinds of layers, in Hugging Face's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the new tokens of one sequence are divided."""

    num_prefix: int
    """Tokens before the first branch; those that are not among the queries lie in the cache."""
    places_BS: Tensor
    """For each branch the places of its tokens, counted from the first branch's first token; a
    place of padding repeats the branch's last token."""
    is_token_BS: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """A batch of whole sequences with a mask of its own, [B, 1, T, T]: the training path."""

    mask: Tensor


def switch(llm: PreTrainedModel, implementation: str) -> None:
    """Let every layer attend in this way.

    Raises:
        NotImplementedError: a layer does not ask `AttentionInterface`, so that branches would
            see each other.
    """
    kinds = set(getattr(llm.config, "layer_types", None) or ()) - ATTENDING
    if not kinds:
        llm.set_attn_implementation(implementation)
    if kinds or llm.config._attn_implementation != implementation:
        raise NotImplementedError(
            f"{type(llm).__name__} has layers ({', '.join(sorted(kinds)) or 'of its own code'}) "
            f"that packed scoring cannot keep apart: use a model whose layers all attend"
        )


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | Masked | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that Hugging Face's layers call; see `AttentionInterface`."""
    for option in ("sliding_window", "softcap", "s_aux"):
        if kwargs.get(option) is not None and not _is_harmless(option, kwargs[option], key):
            raise NotImplementedError(
                f"{type(module).__name__} asks for {option}={kwargs[option]}, which packed scoring "
                f"does not compute: use a model without it, or score one by one"
            )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if isinstance(packing, Masked):
        out = scaled_dot_product_attention(
            query, key, value, packing.mask, dropout, scale=scale, enable_gqa=True
        )
    elif packing is None:
        out = scaled_dot_product_attention(
            query, key, value, None, dropout, is_causal=True, scale=scale, enable_gqa=True
        )
    else:
        out = _cascade(query, key, value, packing, scale)
    return out.transpose(1, 2).contiguous(), None


def _is_harmless(option: str, value: Any, key: Tensor) -> bool:
    return option == "sliding_window" and int(value) >= key.shape[2]


def _cascade(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float) -> Tensor:
    prefix = packing.num_prefix
    num_new = key.shape[2] - prefix
    parts = []
    if query.shape[2] > num_new:  # the prefix itself is among the queries
        own = slice(0, prefix)
        parts.append(
            scaled_dot_product_attention(
                query[:, :, own], key[:, :, own], value[:, :, own],
                is_causal=True, scale=scale, enable_gqa=True,
            )
        )  # fmt: skip
        query = query[:, :, prefix:]
    shared, shared_lse = _over_prefix(query, key[:, :, :prefix], value[:, :, :prefix], scale)
    own_out, own_lse = _over_branches(
        query, key[:, :, prefix:], value[:, :, prefix:], packing, scale
    )
    weight = torch.sigmoid(own_lse - shared_lse)[..., None].to(shared.dtype)
    parts.append(shared + (own_out - shared) * weight)
    return torch.cat(parts, dim=2)


def _over_prefix(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Every query against the whole prefix; the heads of a group are folded into the queries."""
    _, num_heads, num_tokens, size = query.shape
    groups = key.shape[1]
    folded = query.reshape(1, groups, num_heads // groups * num_tokens, size)
    out, lse = _with_lse(folded, key, value, is_causal=False, scale=scale)
    return out.reshape(1, num_heads, num_tokens, size), lse.reshape(1, num_heads, num_tokens)


def _over_branches(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float
) -> tuple[Tensor, Tensor]:
    """Every branch causally against itself, as a batch of padded blocks."""
    num_heads, groups = query.shape[1], key.shape[1]
    places_BS = packing.places_BS

    def blocks(one: Tensor) -> Tensor:  # [1, A, T, E] -> [B, A, S, E]
        return one[0][:, places_BS].transpose(0, 1)

    keys, values = blocks(key), blocks(value)
    if groups < num_heads:
        keys = keys.repeat_interleave(num_heads // groups, dim=1)
        values = values.repeat_interleave(num_heads // groups, dim=1)
    out, lse = _with_lse(blocks(query), keys, values, is_causal=True, scale=scale)
    is_token = packing.is_token_BS  # padding stands at a branch's end, where no query sees it
    return (
        out.transpose(0, 1)[:, is_token][None],
        lse.transpose(0, 1)[:, is_token][None],
    )


def _with_lse(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of each query's logits, in float32."""
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query.contiguous(), key.contiguous(), value.contiguous(), 0.0, is_causal, scale=scale
        )
        return out, lse
    logits = (query @ key.transpose(-1, -2)).float() * scale
    if is_causal:
        is_later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        logits = logits.masked_fill(is_later, float("-inf"))
    lse = logits.logsumexp(dim=-1)
    return (logits - lse[..., None]).exp().to(value.dtype) @ value, lse


def _no_mask(*_: Any, **__: Any) -> None:
    """The packing says what is seen; Hugging Face need not build a mask."""
    return None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
