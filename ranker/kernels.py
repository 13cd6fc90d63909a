"""Queries, keys and values in, attention and the log-sum-exp of its logits out.

Two ways: `fused` by the kernel that the device has, which never holds the logits; `exact` with the
logits at hand, some queries at a time, on any device, for soft caps and for masks.

Shape legend: B batch, A query heads, G groups (key heads), Q queries, K keys, E head dimensions.
"""

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

BLOCK_LOGITS = 1 << 22  # held at once by `exact`: 16 MiB


def fused(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention by the device's own kernel where it has one, else by `exact`.

    Args:
        query: [B, A, Q, E].
        key: And value: [B, A, K, E]; as many keys as queries where it is causal.
        is_causal: A query sees the keys up to its own place.
        scale: Of the logits.

    Returns:
        [B, A, Q, E], and [B, A, Q] in float32.
    """
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, scale=scale
        )
        return out, lse
    if query.device.type == "cuda":
        asked = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, is_causal, False)
        # Only the public function pads heads to a multiple of 8.
        if query.shape[-1] % 8 == 0 and torch.backends.cuda.can_use_flash_attention(asked):
            out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
                query, key, value, 0.0, is_causal, scale=scale
            )
            return out, lse[..., : query.shape[2]]
        if torch.backends.cuda.can_use_efficient_attention(asked):
            out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
                query, key, value, None, True, 0.0, is_causal, scale=scale
            )
            return out, lse[..., : query.shape[2]]  # it fills up to a multiple of 32
    seen = causal(query.shape[2], device=query.device)[None, None] if is_causal else None
    return exact(query, key, value, seen, scale=scale)


def exact(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Tensor | None,
    *,
    scale: float,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention with all logits at hand; differentiable.

    Args:
        query: [B, A, Q, E].
        key: And value: [B, G, K, E].
        seen: [B or 1, 1, Q, K]; None for all. Who sees nothing gets zeros and -inf.
        scale: Of the logits.
        softcap: Logits are bent to lie within it: c * tanh(logit / c).
        dropout: Of the weights.

    Returns:
        As `fused`.
    """
    batch, num_heads, num_queries, size = query.shape
    groups, num_keys = key.shape[1], key.shape[2]
    block = max(1, BLOCK_LOGITS // max(1, batch * num_heads * num_keys))
    outs, sums = [], []
    for first in range(0, num_queries, block):
        asking = query[:, :, first : first + block]
        width = asking.shape[2]
        # The heads of a group stand below each other, so that keys need not be repeated.
        logits = asking.reshape(batch, groups, -1, size) @ key.transpose(-1, -2)
        logits = logits.float().unflatten(2, (num_heads // groups, width)) * scale
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        if seen is not None:
            logits = logits.masked_fill(~seen[:, :, None, first : first + block], -torch.inf)
        lse = logits.logsumexp(dim=-1)
        weights = (logits - lse.nan_to_num(neginf=0.0)[..., None]).exp().to(value.dtype)
        weights = torch.nn.functional.dropout(weights, dropout)
        outs.append((weights.flatten(2, 3) @ value).reshape(asking.shape))
        sums.append(lse.reshape(asking.shape[:3]))
    return torch.cat(outs, dim=2), torch.cat(sums, dim=2)


def causal(num_tokens: int, *, window: int | None = None, device: torch.device) -> Tensor:
    """[T, T]: a token sees itself and those before it, `window` altogether at most."""
    seen_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
    return seen_TT if window is None else seen_TT.triu(1 - window)
