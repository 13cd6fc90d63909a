"""A cascade of prefix and branches equals one softmax, on whichever path it is computed."""

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import (  # noqa: E402
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ranker import attention  # noqa: E402
from ranker.attention import (  # noqa: E402
    Answers,
    Masked,
    Packing,
    Reading,
    Stop,
    attend,
    switch,
)
from ranker.prefixes import Prefix  # noqa: E402

HEADS, GROUPS, SIZE, PREFIX = 4, 2, 8, 5
LENGTHS = torch.tensor([3, 1, 4])
ENDS = LENGTHS.cumsum(0) - 1


class Layer(torch.nn.Module):
    """What an attention layer tells of itself."""

    layer_idx = 0


LAYER = Layer()


def packing(key: Tensor, value: Tensor) -> Packing:
    """The division of whole sequences, prefix and branches."""
    steps = torch.arange(4)
    starts = LENGTHS.cumsum(0) - LENGTHS
    is_token = steps < LENGTHS[:, None]
    return Packing(
        prefix=Prefix(keys=(key[:, :, :PREFIX],), values=(value[:, :, :PREFIX],)),
        places_BS=starts[:, None] + torch.minimum(steps, LENGTHS[:, None] - 1),
        is_token_BS=is_token,
        steps_T=steps.expand(len(LENGTHS), -1)[is_token],
    )


def cascade(query: Tensor, key: Tensor, value: Tensor, **options: float) -> Tensor:
    """[1, A, T, E]: of the branches, packed behind the prefix."""
    own = (one[:, :, PREFIX:] for one in (query, key, value))
    out, _ = attend(LAYER, *own, None, packing=packing(key, value), **options)
    return out.transpose(1, 2)


def positions() -> Tensor:
    """[T]: each branch counts on from the prefix's end."""
    return torch.cat([torch.arange(PREFIX), *(PREFIX + torch.arange(int(one)) for one in LENGTHS)])


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


def by_hand(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, *, softcap: float | None = None
) -> Tensor:
    key, value = (one.repeat_interleave(HEADS // GROUPS, dim=1) for one in (key, value))
    logits = query @ key.transpose(-1, -2) * SIZE**-0.5
    if softcap is not None:
        logits = (logits / softcap).tanh() * softcap
    return logits.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ value


def in_window(window: int) -> Tensor:
    """[T, T]: what a window leaves of the mask, counted in positions."""
    return mask() & (positions()[:, None] - positions() < window)


def test_the_cascade_equals_one_softmax_over_prefix_and_branch() -> None:
    given = tensors()
    torch.testing.assert_close(cascade(*given), by_hand(*given, mask())[:, :, PREFIX:])


def test_answers_alone_are_what_they_are_among_all_tokens() -> None:
    query, key, value = tensors()
    own = [one[:, :, PREFIX:] for one in (query, key, value)]
    answers = Answers(packing=packing(key, value), key=own[1], value=own[2])
    out, _ = attend(LAYER, own[0][:, :, ENDS], own[1], own[2], None, packing=answers)
    expected = cascade(query, key, value)[:, :, ENDS]
    torch.testing.assert_close(out.transpose(1, 2), expected)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 6, 8, 9, 20])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_a_window_and_a_soft_cap_are_one_softmax_too(window: int, softcap: float | None) -> None:
    _, key, value = given = tensors()
    expected = by_hand(*given, in_window(window), softcap=softcap)[:, :, PREFIX:]
    options = {"sliding_window": window, "softcap": softcap}
    torch.testing.assert_close(cascade(*given, **options), expected)
    own = [one[:, :, PREFIX:] for one in given]
    answers = Answers(packing=packing(key, value), key=own[1], value=own[2])
    out, _ = attend(LAYER, own[0][:, :, ENDS], *own[1:], None, packing=answers, **options)
    torch.testing.assert_close(out.transpose(1, 2), expected[:, :, ENDS])


@pytest.mark.parametrize("window", [1, 4, 9, 20])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_a_batch_with_a_mask_heeds_window_and_cap_by_positions(
    window: int, softcap: float | None
) -> None:
    given = tensors()
    masked, _ = attend(
        LAYER,
        *given,
        None,
        packing=Masked(mask=mask()[None, None]),
        position_ids=positions()[None],
        sliding_window=window,
        softcap=softcap,
    )
    expected = by_hand(*given, in_window(window), softcap=softcap)
    torch.testing.assert_close(masked.transpose(1, 2), expected)


def test_a_batch_without_positions_is_refused_where_a_window_cuts() -> None:
    given, asked = tensors(), Masked(mask=mask()[None, None])
    with pytest.raises(NotImplementedError, match="window of 12 positions and is not told"):
        attend(LAYER, *given, None, packing=asked, sliding_window=12)
    plain, _ = attend(LAYER, *given, None, packing=asked)
    wide, _ = attend(LAYER, *given, None, packing=asked, sliding_window=13)
    assert torch.equal(plain, wide)


@pytest.mark.parametrize("options", [{}, {"softcap": 1.5}, {"sliding_window": 4}])
def test_what_is_trained_gets_gradients_through_every_way(options: dict[str, float]) -> None:
    query, key, value = (one.double().requires_grad_() for one in tensors())
    out, _ = attend(
        LAYER,
        *(query, key, value),
        None,
        packing=Masked(mask=mask()[None, None]),
        position_ids=positions()[None],
        **options,
    )
    seen = in_window(options.get("sliding_window", 99))  # type: ignore[arg-type]
    expected = by_hand(query, key, value, seen, softcap=options.get("softcap"))
    weights = torch.randn_like(expected)
    found = torch.autograd.grad((out.transpose(1, 2) * weights).sum(), (query, key, value))
    wanted = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_mask_of_whole_sequences_gives_what_the_cascade_gives() -> None:
    given = tensors()
    masked, _ = attend(LAYER, *given, None, packing=Masked(mask=mask()[None, None]))
    torch.testing.assert_close(masked.transpose(1, 2)[:, :, PREFIX:], cascade(*given))


def test_a_mask_that_leaks_gives_something_else() -> None:
    given = tensors()
    causal = torch.ones_like(mask()).tril()
    leaked, _ = attend(LAYER, *given, None, packing=Masked(mask=causal[None, None]))
    leaked, packed = leaked.transpose(1, 2)[:, :, PREFIX:], cascade(*given)
    second = int(LENGTHS[0])
    torch.testing.assert_close(leaked[:, :, :second], packed[:, :, :second])
    assert (leaked - packed)[:, :, second:].abs().max() > 1e-2


@pytest.mark.parametrize("window", [None, 4])
def test_without_a_packing_attention_is_causal(window: int | None) -> None:
    query, key, value = tensors()
    out, _ = attend(LAYER, query, key, value, None, sliding_window=window)
    seen = torch.ones_like(mask()).tril().triu(1 - (window or 99))
    torch.testing.assert_close(out.transpose(1, 2), by_hand(query, key, value, seen))


def test_reading_keeps_keys_and_values_and_stops_where_asked() -> None:
    query, key, value = tensors()
    reading = Reading()
    read, _ = attend(LAYER, query, key, value, None, packing=reading)
    plain, _ = attend(LAYER, query, key, value, None)
    assert torch.equal(read, plain)
    assert reading.kept == {0: (key, value)}
    stopping = Reading(stops=True)
    with pytest.raises(Stop):
        attend(LAYER, query, key, value, None, packing=stopping)
    assert stopping.kept == {0: (key, value)}


def test_the_scale_that_a_layer_asks_for_is_taken() -> None:
    query, key, value = tensors()
    scaled = cascade(query, key, value, scaling=0.1)
    torch.testing.assert_close(scaled, cascade(query * 0.1 * SIZE**0.5, key, value))


def test_half_precision_stays_close() -> None:
    given = tensors()
    half = cascade(*(one.bfloat16() for one in given))
    assert half.dtype == torch.bfloat16
    assert (half.float() - cascade(*given)).abs().max() < 0.1


def test_what_is_not_computed_is_refused_by_name() -> None:
    given = tensors()
    with pytest.raises(NotImplementedError, match="Layer asks for attention sinks"):
        attend(LAYER, *given, None, s_aux=torch.ones(HEADS))
    nameless = torch.nn.Linear(1, 1)
    with pytest.raises(NotImplementedError, match="Linear does not say which layer it is"):
        attend(nameless, *given, None)
    ahead = Layer()
    ahead.is_causal = False
    with pytest.raises(NotImplementedError, match="Layer looks ahead"):
        attend(ahead, *given, None)
    with pytest.raises(NotImplementedError, match="continues no cache"):
        attend(LAYER, given[0][:, :, PREFIX:], *given[1:], None)


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(sliding_window=4),
        Gemma3TextConfig(num_hidden_layers=1, layer_types=["sliding_attention"]),
    ],
)
def test_a_window_that_a_layer_keeps_to_itself_is_refused(config: PreTrainedConfig) -> None:
    silent = Layer()
    silent.config = config
    with pytest.raises(NotImplementedError, match="slides a window that Layer does not tell of"):
        attend(silent, *tensors(), None)
    attend(silent, *tensors(), None, sliding_window=4)


def test_layers_are_switched_to_the_packed_attention_and_back() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 9}
    llm = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
    switch(llm, attention.NAME)
    assert llm.config._attn_implementation == attention.NAME
    tokens = torch.tensor([[1, 2, 3]])
    llm(tokens, attention_mask=torch.ones_like(tokens))
    with pytest.raises(NotImplementedError, match="takes no padding"):
        llm(tokens, attention_mask=torch.tensor([[0, 1, 1]]))
    switch(llm, "eager")
    assert llm.config._attn_implementation == "eager"


def test_a_model_without_attention_is_refused() -> None:
    llm = MambaForCausalLM(
        MambaConfig(vocab_size=9, hidden_size=8, state_size=2, num_hidden_layers=1)
    )
    with pytest.raises(NotImplementedError, match="MambaForCausalLM has layers"):
        switch(llm, attention.NAME)
