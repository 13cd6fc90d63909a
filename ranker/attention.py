"""Queries, keys and values in, attention over a shared prefix and ragged branches out.

All candidates stand in one sequence behind one prefix. A branch's query attends to the whole
prefix and, causally, to its own branch; the two parts are merged by their log-sum-exp:

    o = o1 + (o2 - o1) * sigmoid(l2 - l1)

which equals one softmax over both (the cascade of Hydragen, arXiv 2402.05099, and FlashInfer).
Registered with Hugging Face's `AttentionInterface`, so that every architecture built on it can be
packed without a rewrite. A layer's window (it sees the latest W positions alone) and soft cap are
computed where they matter, by a slower path with all logits at hand; what is not computed, such as
attention sinks or layers that look ahead, is refused by name, never miscomputed.

Shape legend: B batch or branches, A query heads, G groups (key heads), T tokens, S tokens of a
branch, P prefix tokens, E head dimensions, Q queries, K keys.
"""

from dataclasses import dataclass, field
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel  # noqa: E402

from ranker import kernels  # noqa: E402
from ranker.prefixes import Prefix  # noqa: E402

NAME = "sommelier_packed"
ATTENDING = {"full_attention", "sliding_attention"}  # kinds of layers, in Hugging Face's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the tokens of one packed sequence, branches behind a prefix, are divided."""

    prefix: Prefix
    places_BS: Tensor
    """For each branch the places of its tokens in the sequence; a place of padding repeats the
    branch's last token."""
    is_token_BS: Tensor
    steps_T: Tensor
    """Each token's place in its own branch, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The same where only each branch's last token asks: the last layer."""

    packing: Packing
    key: Tensor
    """Of all tokens of the branches, [1, G, T, E]."""
    value: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sequence alone, of which every layer's keys and values are kept."""

    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    stops: bool = False
    """The layer is left by `Stop` as soon as they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """A batch of whole sequences with a mask of its own, [B, 1, T, T]: the training path."""

    mask: Tensor


class Stop(Exception):
    """Keys and values are kept, and nothing more is wanted of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What a layer asks for besides causal attention."""

    layer: int
    scale: float
    window: int | None
    """Position p sees p - window + 1 to p."""
    softcap: float | None


def switch(llm: PreTrainedModel, implementation: str) -> None:
    """Let every layer attend in this way.

    Raises:
        NotImplementedError: a layer does not ask `AttentionInterface`, so that branches would
            see each other.
    """
    kinds = set(getattr(llm.config.get_text_config(), "layer_types", None) or ()) - ATTENDING
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
    packing: Packing | Answers | Reading | Masked | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that Hugging Face's layers call; see `AttentionInterface`.

    Raises:
        NotImplementedError: the layer asks for what is not computed here.
    """
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    rule = _rule(module, scale, kwargs)
    if isinstance(packing, Reading):
        packing.kept[rule.layer] = key, value
        if packing.stops:
            raise Stop
    if isinstance(packing, Packing):
        out = _cascade(query, key, value, packing, rule=rule)
    elif isinstance(packing, Answers):
        out = _last(query, packing, rule)
    elif isinstance(packing, Masked):
        mask = _in_window(packing.mask, kwargs.get("position_ids"), rule)
        out = _masked(query, key, value, mask, dropout=dropout, rule=rule)
    else:
        out = _causal(query, key, value, dropout, rule=rule)
    return out.transpose(1, 2).contiguous(), None


def _rule(module: torch.nn.Module, scale: float, asked: dict[str, Any]) -> _Rule:
    name = type(module).__name__
    layer = getattr(module, "layer_idx", None)
    if layer is None or not getattr(module, "is_causal", True):
        problem = "does not say which layer it is" if layer is None else "looks ahead"
        raise NotImplementedError(
            f"{name} {problem}, which packed scoring does not compute: use another model"
        )
    if asked.get("s_aux") is not None:
        raise NotImplementedError(
            f"{name} asks for attention sinks (s_aux), which packed scoring does not compute: use "
            f"a model without them"
        )
    window = asked.get("sliding_window")
    if window is None and _is_sliding(module, layer):
        raise NotImplementedError(
            f"layer {layer} slides a window that {name} does not tell of, so that packed scoring "
            f"would look too far back: use another model"
        )
    softcap = asked.get("softcap")
    return _Rule(
        layer=layer,
        scale=scale,
        window=None if window is None else int(window),
        softcap=None if softcap is None else float(softcap),
    )


def _is_sliding(module: torch.nn.Module, layer: int) -> bool:
    config = getattr(module, "config", None)
    if kinds := getattr(config, "layer_types", None):
        return bool(kinds[layer] == "sliding_attention")
    return getattr(config, "sliding_window", None) is not None


def _causal(query: Tensor, key: Tensor, value: Tensor, dropout: float, *, rule: _Rule) -> Tensor:
    """Whole sequences, [B, A, T, E], each token seeing the former ones."""
    num_tokens = query.shape[2]
    if num_tokens != key.shape[2]:
        raise NotImplementedError(
            f"{NAME} attention continues no cache: switch the model to another implementation"
        )
    if rule.softcap is None and (rule.window is None or num_tokens <= rule.window):
        out: Tensor = scaled_dot_product_attention(
            query, key, value, None, dropout, is_causal=True, scale=rule.scale, enable_gqa=True
        )
        return out
    seen_TT = kernels.causal(num_tokens, window=rule.window, device=query.device)
    return _masked(query, key, value, seen_TT[None, None], dropout=dropout, rule=rule)


def _in_window(mask: Tensor, positions_BT: Tensor | None, rule: _Rule) -> Tensor:
    """The mask [B, 1, T, T], the layer's window applied, which counts positions and not places."""
    if rule.window is None or mask.shape[-1] <= rule.window:
        return mask
    if positions_BT is None:
        raise NotImplementedError(
            f"layer {rule.layer} slides a window of {rule.window} positions and is not told the "
            f"positions: use another model, or shorter prompts"
        )
    distances_BTT = positions_BT[:, :, None] - positions_BT[:, None, :]
    return mask & (distances_BTT < rule.window)[:, None]


def _masked(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, dropout: float, rule: _Rule
) -> Tensor:
    """Whole sequences, each token seeing what the mask says."""
    if rule.softcap is not None:
        cap = rule.softcap
        return kernels.exact(
            query, key, value, mask, scale=rule.scale, softcap=cap, dropout=dropout
        )[0]
    out: Tensor = scaled_dot_product_attention(
        query, key, value, mask, dropout, scale=rule.scale, enable_gqa=True
    )
    return out


def _cascade(query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, rule: _Rule) -> Tensor:
    """All tokens of all branches, [1, A, T, E]."""
    shared = _over_prefix(query, packing, packing.steps_T, rule)
    own = _over_branches(query, key, value, packing, rule=rule)
    return _merged(*shared, *own)


def _last(query: Tensor, answers: Answers, rule: _Rule) -> Tensor:
    """Each branch's last token alone, [1, A, B, E]: it sees its whole branch."""
    packing = answers.packing
    lengths_B = packing.is_token_BS.sum(dim=1)
    shared = _over_prefix(query, packing, lengths_B - 1, rule)
    seen_BS = packing.is_token_BS
    if rule.window is not None:
        steps_S = torch.arange(seen_BS.shape[1], device=seen_BS.device)
        seen_BS = seen_BS & (lengths_B[:, None] - 1 - steps_S < rule.window)
    keys, values = (_blocks(one, packing) for one in (answers.key, answers.value))
    queries_BA1E = query[0].transpose(0, 1)[:, :, None]
    seen_B11S = seen_BS[:, None, None]
    out, lse = _exact(queries_BA1E, keys, values, seen_B11S, rule=rule)
    return _merged(*shared, out[:, :, 0].transpose(0, 1)[None], lse[:, :, 0].T[None])


def _merged(shared: Tensor, shared_lse: Tensor, own: Tensor, own_lse: Tensor) -> Tensor:
    """Two parts of one softmax; a part of which nothing is seen has a log-sum-exp of -inf."""
    weight = torch.sigmoid(own_lse - shared_lse)[..., None]
    return torch.lerp(shared.float(), own.float(), weight).to(shared.dtype)


def _over_prefix(
    query: Tensor, packing: Packing, steps_T: Tensor, rule: _Rule
) -> tuple[Tensor, Tensor]:
    """Every query against the whole prefix; the heads of a group are folded into the queries."""
    prefix, longest = packing.prefix, packing.is_token_BS.shape[1]
    key, value = prefix.keys[rule.layer], prefix.values[rule.layer]
    num_prefix = prefix.num_tokens
    seen = None
    if rule.window is not None and num_prefix + longest > rule.window:
        first = max(0, num_prefix - rule.window + 1)  # the earliest that any branch sees
        key, value = key[:, :, first:], value[:, :, first:]
        places_K = torch.arange(first, num_prefix, device=query.device)
        seen = (num_prefix + steps_T[:, None] - places_K < rule.window)[None, None]
    if seen is not None or rule.softcap is not None:
        return _exact(query, key, value, seen, rule=rule)
    _, num_heads, num_tokens, size = query.shape
    groups = key.shape[1]
    folded = query.reshape(1, groups, num_heads // groups * num_tokens, size)
    out, lse = kernels.fused(folded, key, value, is_causal=False, scale=rule.scale)
    return out.reshape(1, num_heads, num_tokens, size), lse.reshape(1, num_heads, num_tokens)


def _over_branches(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, rule: _Rule
) -> tuple[Tensor, Tensor]:
    """Every branch causally against itself, as a batch of padded blocks."""
    queries, keys, values = (_blocks(one, packing) for one in (query, key, value))
    longest, repeats = queries.shape[2], query.shape[1] // key.shape[1]
    if rule.softcap is not None or (rule.window is not None and longest > rule.window):
        seen_SS = kernels.causal(longest, window=rule.window, device=query.device)
        out, lse = _exact(queries, keys, values, seen_SS[None, None], rule=rule)
    else:
        if repeats > 1:
            keys = keys.repeat_interleave(repeats, dim=1)
            values = values.repeat_interleave(repeats, dim=1)
        out, lse = kernels.fused(queries, keys, values, is_causal=True, scale=rule.scale)
    is_token = packing.is_token_BS  # padding stands at a branch's end, where no query sees it
    return out.transpose(0, 1)[:, is_token][None], lse.transpose(0, 1)[:, is_token][None]


def _blocks(one: Tensor, packing: Packing) -> Tensor:
    """[1, A, T, E] -> [B, A, S, E]."""
    return one[0][:, packing.places_BS].transpose(0, 1)


def _exact(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, *, rule: _Rule
) -> tuple[Tensor, Tensor]:
    return kernels.exact(query, key, value, seen, scale=rule.scale, softcap=rule.softcap)


def _no_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> None:
    """The packing says what is seen; Hugging Face need not build a mask.

    Raises:
        NotImplementedError: the caller masks padding, which would be seen.
    """
    if attention_mask is not None and not bool(attention_mask.all()):
        raise NotImplementedError(
            f"{NAME} attention takes no padding: switch the model to another implementation"
        )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
