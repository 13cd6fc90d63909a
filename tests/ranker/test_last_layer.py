"""The last layer computes what is wanted of it alone, and everything where nothing is said."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from ranker import last_layer  # noqa: E402
from ranker.packing import AnswerHead, read, score_packed  # noqa: E402
from tests.ranker.family_world import FAMILIES, WIDTH, loud  # noqa: E402

PREFIX, LENGTHS = 7, (3, 5, 1, 4)


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """How many tokens each layer's feed-forward network saw, in order."""
    seen: list[int] = []
    handles = [
        layer.mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
        for layer in model.get_decoder().layers
    ]
    yield seen
    for handle in handles:
        handle.remove()


def prompt() -> tuple[Tensor, list[Tensor]]:
    return torch.randn(PREFIX, WIDTH), [torch.randn(length, WIDTH) for length in LENGTHS]


@pytest.mark.parametrize("family", FAMILIES)
def test_only_keys_and_values_of_a_prefix_and_the_last_tokens_of_branches_are_computed(
    family: str,
) -> None:
    model = loud(FAMILIES[family](50))
    prefix, branches = prompt()
    whole = [len(prefix)] * (len(model.get_decoder().layers) - 1)
    with torch.inference_mode(), counted(model) as seen:
        kept = read(model, prefix)
        assert seen == [*whole, 1]
        seen.clear()
        score_packed(model, kept, branches, AnswerHead(model, yes=7, no=8))
        assert seen == [*(sum(LENGTHS) for _ in whole), len(LENGTHS)]


def test_a_model_that_is_called_otherwise_computes_everything() -> None:
    model = loud(FAMILIES["llama"](50))
    tokens = torch.arange(9)[None]
    with torch.inference_mode():
        before = model(tokens).logits
        read(model, prompt()[0])
        model.set_attn_implementation("sdpa")
        with counted(model) as seen:
            assert torch.equal(model(tokens).logits, before)
    assert seen == [9, 9]


def test_a_copy_of_a_model_computes_with_its_own_weights() -> None:
    model = loud(FAMILIES["llama"](50))
    head, given = AnswerHead(model, yes=7, no=8), prompt()
    with torch.inference_mode():
        before = score_packed(model, *given, head)
        other = copy.deepcopy(model)
        assert torch.equal(score_packed(other, *given, head), before)
        other.model.layers[-1].mlp.down_proj.weight.zero_()
        assert not torch.equal(score_packed(other, *given, head), before)
        assert torch.equal(score_packed(model, *given, head), before)


def test_a_layer_that_is_given_more_of_its_tokens_computes_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = loud(FAMILIES["llama"](50))
    head, given = AnswerHead(model, yes=7, no=8), prompt()
    with torch.inference_mode():
        spared = score_packed(model, *given, head)
        monkeypatch.setattr(last_layer, "_can_select", lambda given, options: False)
        with counted(model) as seen:
            whole = score_packed(model, *given, head)
    assert seen == [PREFIX, PREFIX, sum(LENGTHS), sum(LENGTHS)]
    torch.testing.assert_close(spared, whole)
