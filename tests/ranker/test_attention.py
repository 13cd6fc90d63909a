"""A cascade of prefix and branches equals one softmax, on whichever path it is computed."""

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import MambaConfig, MambaForCausalLM, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from ranker import attention  # noqa: E402
from ranker.attention import Masked, Packing, attend, switch  # noqa: E402

HEADS, GROUPS, SIZE, PREFIX = 4, 2, 8, 5
LENGTHS = torch.tensor([3, 1, 4])


def packing() -> Packing:
    steps = torch.arange(4)
    starts = LENGTHS.cumsum(0) - LENGTHS
    return Packing(
        num_prefix=PREFIX,
        places_BS=starts[:, None] + torch.minimum(steps, LENGTHS[:, None] - 1),
        is_token_BS=steps < LENGTHS[:, None],
    )


def mask() -> Tensor:
    """[T, T]: causal; a branch sees the prefix and itself."""
    segments = torch.repeat_interleave(torch.arange(4), torch.tensor([PREFIX, *LENGTHS.tolist()]))
    seen = (segments[None] == 0) | (segments[None] == segments[:, None])
    return seen & torch.ones(len(segments), len(segments), dtype=torch.bool).tril()


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    total = PREFIX + int(LENGTHS.sum())
    shape = (total, SIZE)
    return (
        torch.randn(1, HEADS, *shape) * 2,
        torch.randn(1, GROUPS, *shape) * 2,
        torch.randn(1, GROUPS, *shape),
    )


def by_hand(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    key, value = (one.repeat_interleave(HEADS // GROUPS, dim=1) for one in (key, value))
    logits = query @ key.transpose(-1, -2) * SIZE**-0.5
    return logits.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ value


MODULE = torch.nn.Linear(1, 1)


def test_the_cascade_equals_one_softmax_over_prefix_and_branch() -> None:
    query, key, value = tensors()
    out, _ = attend(MODULE, query, key, value, None, packing=packing())
    torch.testing.assert_close(out.transpose(1, 2), by_hand(query, key, value, mask()))


def test_branches_alone_attend_to_the_cached_prefix() -> None:
    query, key, value = tensors()
    new = query[:, :, PREFIX:]
    out, _ = attend(MODULE, new, key, value, None, packing=packing())
    torch.testing.assert_close(
        out.transpose(1, 2), by_hand(query, key, value, mask())[:, :, PREFIX:]
    )


def test_a_mask_of_whole_sequences_gives_what_the_cascade_gives() -> None:
    query, key, value = tensors()
    masked, _ = attend(MODULE, query, key, value, None, packing=Masked(mask=mask()[None, None]))
    packed, _ = attend(MODULE, query, key, value, None, packing=packing())
    torch.testing.assert_close(masked, packed)


def test_a_mask_that_leaks_gives_something_else() -> None:
    query, key, value = tensors()
    causal = torch.ones_like(mask()).tril()
    leaked, _ = attend(MODULE, query, key, value, None, packing=Masked(mask=causal[None, None]))
    packed, _ = attend(MODULE, query, key, value, None, packing=packing())
    second = PREFIX + int(LENGTHS[0])
    torch.testing.assert_close(leaked[:, :second], packed[:, :second])
    assert (leaked - packed)[:, second:].abs().max() > 1e-2


def test_without_a_packing_attention_is_causal() -> None:
    query, key, value = tensors()
    out, _ = attend(MODULE, query, key, value, None)
    causal = torch.ones_like(mask()).tril()
    torch.testing.assert_close(out.transpose(1, 2), by_hand(query, key, value, causal))


def test_the_scale_that_a_layer_asks_for_is_taken() -> None:
    query, key, value = tensors()
    scaled, _ = attend(MODULE, query, key, value, None, scaling=0.1, packing=packing())
    as_usual, _ = attend(MODULE, query * 0.1 * SIZE**0.5, key, value, None, packing=packing())
    torch.testing.assert_close(scaled, as_usual)


@pytest.mark.parametrize("is_causal", [False, True])
def test_both_ways_to_a_log_sum_exp_agree(is_causal: bool) -> None:
    query, key, value = (torch.randn(2, HEADS, 6, SIZE) for _ in range(3))
    out, lse = attention._with_lse(query, key, value, is_causal=is_causal, scale=0.4)
    # What a device without that kernel computes, here in double precision.
    logits = query.double() @ key.double().transpose(-1, -2) * 0.4
    if is_causal:
        logits = logits.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(lse.double(), logits.logsumexp(-1), atol=1e-5, rtol=1e-5)
    expected = logits.softmax(-1) @ value.double()
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_device_gives_what_the_processor_gives(is_causal: bool) -> None:
    given = [torch.randn(2, HEADS, 6, SIZE) for _ in range(3)]
    here = attention._with_lse(*given, is_causal=is_causal, scale=0.4)
    there = attention._with_lse(*(one.cuda() for one in given), is_causal=is_causal, scale=0.4)
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu(), atol=1e-4, rtol=1e-4)


def test_half_precision_stays_close() -> None:
    query, key, value = tensors()
    whole, _ = attend(MODULE, query, key, value, None, packing=packing())
    halves = (one.bfloat16() for one in (query, key, value))
    half, _ = attend(MODULE, *halves, None, packing=packing())
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).abs().max() < 0.1


@pytest.mark.parametrize(
    ("option", "value"), [("sliding_window", 12), ("softcap", 30.0), ("s_aux", 1.0)]
)
def test_what_is_not_computed_is_refused_by_name(option: str, value: float) -> None:
    options = {option: value}
    with pytest.raises(NotImplementedError, match=f"Linear asks for {option}={value}"):
        attend(MODULE, *tensors(), None, packing=packing(), **options)


def test_a_window_over_the_whole_sequence_is_harmless() -> None:
    given = tensors()
    plain, _ = attend(MODULE, *given, None, packing=packing())
    wide, _ = attend(MODULE, *given, None, packing=packing(), sliding_window=13)
    assert torch.equal(plain, wide)


def test_layers_are_switched_to_the_packed_attention_and_back() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 9}
    llm = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
    switch(llm, attention.NAME)
    assert llm.config._attn_implementation == attention.NAME
    switch(llm, "eager")
    assert llm.config._attn_implementation == "eager"


def test_a_model_without_attention_is_refused() -> None:
    llm = MambaForCausalLM(
        MambaConfig(vocab_size=9, hidden_size=8, state_size=2, num_hidden_layers=1)
    )
    with pytest.raises(NotImplementedError, match="MambaForCausalLM has layers"):
        switch(llm, attention.NAME)
