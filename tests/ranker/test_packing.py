"""Packed scores equal scores one by one, and a leak between branches would be seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from embedders.checkpoint import quiet  # noqa: E402
from ranker import packing  # noqa: E402
from ranker.packing import AnswerHead, score_one_by_one, score_packed  # noqa: E402

WIDTH, VOCABULARY = 32, 50
LENGTHS = (3, 7, 4, 1, 9, 5, 2, 6)
PREFIX = 11
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
QWEN2 = {key: value for key, value in SIZES.items() if key != "head_dim"}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**QWEN2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreTrainedModel]:
    """Saves a model as a checkpoint and loads it, as a user's would be."""

    def saved(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        folder = tmp_path_factory.mktemp("checkpoint")
        return reload(loud(build()), folder)

    return saved


def reload(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    with quiet():
        model.save_pretrained(folder)
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return loaded.eval().requires_grad_(False)


def loud(model: PreTrainedModel) -> PreTrainedModel:
    """Fresh weights are so small that every branch gets the same logit; these are not."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator))
                weight.mul_(weight.shape[1] ** -0.5 * (2 if len(weight) < VOCABULARY else 5))
    return model


def prompt(lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(4)
    branches = [torch.randn(length, WIDTH, generator=generator) for length in lengths]
    return torch.randn(PREFIX, WIDTH, generator=generator), branches


def head_of(model: PreTrainedModel) -> AnswerHead:
    return AnswerHead(model, yes=7, no=8)


def both(
    model: PreTrainedModel, prefix: Tensor, branches: list[Tensor], **options: int
) -> tuple[Tensor, Tensor]:
    head = head_of(model)
    with torch.inference_mode():
        packed = score_packed(model, prefix, branches, head, **options)
        return packed, score_one_by_one(model, prefix, branches, head)


def assert_equal(packed: Tensor, single: Tensor) -> None:
    assert packed.dtype == torch.float32
    assert packed.shape == single.shape
    assert (packed - single).abs().max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("token_budget", [1, 9, 16, 10_000])
def test_packed_scores_equal_scores_one_by_one(
    family: str, token_budget: int, load: Callable[..., PreTrainedModel]
) -> None:
    model = load(FAMILIES[family])
    prefix, branches = prompt()
    packed, single = both(model, prefix, branches, token_budget=token_budget)
    assert single.std() > 0.1, "the logits must differ for the comparison to say anything"
    assert_equal(packed, single)


@pytest.fixture(scope="module")
def qwen(load: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return load(FAMILIES["qwen2"])


def test_one_branch_is_scored_as_it_is_among_others(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    alone, single = both(qwen, prefix, branches[2:3])
    among, _ = both(qwen, prefix, branches)
    assert_equal(alone, single)
    assert (alone[0] - among[2]).abs() <= 1e-4


def test_the_order_of_branches_moves_scores_with_them(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    order = [5, 0, 7, 2, 1, 6, 4, 3]
    forth, _ = both(qwen, prefix, branches, token_budget=13)
    shuffled, _ = both(qwen, prefix, [branches[place] for place in order], token_budget=13)
    assert_equal(shuffled, forth[order])


def test_no_branch_has_no_score(qwen: PreTrainedModel) -> None:
    prefix, _ = prompt()
    assert score_packed(qwen, prefix, [], head_of(qwen)).shape == (0,)


def test_lora_that_was_merged_is_packed_as_well(qwen: PreTrainedModel, tmp_path: Path) -> None:
    with quiet():
        qwen.save_pretrained(tmp_path)
        base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    merged = adapted.merge_and_unload().eval().requires_grad_(False)
    prefix, branches = prompt()
    packed, single = both(merged, prefix, branches, token_budget=10)
    assert_equal(packed, single)
    unmerged, _ = both(qwen, prefix, branches)
    assert (packed - unmerged).abs().max() > 1e-2


def test_lora_is_packed_while_it_is_not_merged(qwen: PreTrainedModel, tmp_path: Path) -> None:
    with quiet():
        qwen.save_pretrained(tmp_path)
        base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    prefix, branches = prompt()
    assert_equal(*both(adapted.get_base_model(), prefix, branches, token_budget=10))


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("token_budget", [12, 53, 10_000])
def test_a_window_longer_than_the_sequence_changes_nothing(
    window: int | None, token_budget: int, load: Callable[..., PreTrainedModel]
) -> None:
    # 64 is more than the prefix and all branches, 48; and 11 + 53 would fill it to the brim.
    model = load(lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=window)))
    assert_equal(*both(model, *prompt(), token_budget=token_budget))


def test_a_sequence_as_long_as_the_window_is_scored_in_chunks_too(
    load: Callable[..., PreTrainedModel],
) -> None:
    model = load(lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=PREFIX + 9)))
    prefix, branches = prompt((4, 5, 9, 3))
    assert_equal(*both(model, prefix, branches, token_budget=9))


@pytest.mark.parametrize("token_budget", [4, 12, 10_000])
def test_a_window_shorter_than_the_sequence_is_refused(
    token_budget: int, load: Callable[..., PreTrainedModel]
) -> None:
    model = load(lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)))
    with (
        torch.inference_mode(),
        pytest.raises(NotImplementedError, match="sliding_window=16, which packed scoring does"),
    ):
        score_packed(model, *prompt((9, 8, 7)), head_of(model), token_budget=token_budget)


def test_a_soft_cap_on_attention_is_refused(load: Callable[..., PreTrainedModel]) -> None:
    model = load(lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES)))
    with torch.inference_mode(), pytest.raises(NotImplementedError, match="softcap=50"):
        score_packed(model, *prompt(), head_of(model))


def test_a_soft_cap_on_the_answer_is_computed(load: Callable[..., PreTrainedModel]) -> None:
    capped = Gemma2Config(
        **SIZES, attn_logit_softcapping=None, final_logit_softcapping=0.5, query_pre_attn_scalar=8
    )
    model = load(lambda: Gemma2ForCausalLM(capped))
    prefix, branches = prompt()
    packed, single = both(model, prefix, branches)
    assert_equal(packed, single)
    whole = torch.cat([prefix, branches[0]])[None]
    model.set_attn_implementation("eager")
    logits = model(inputs_embeds=whole).logits[0, -1]
    assert (packed[0] - (logits[7] - logits[8])).abs() <= 1e-4


def test_layers_that_do_not_attend_are_refused() -> None:
    sizes = {key: value for key, value in SIZES.items() if "token_id" not in key}
    config = FalconH1Config(
        **sizes, pad_token_id=0, mamba_d_ssm=16, mamba_n_heads=4, mamba_d_head=4, mamba_d_state=4
    )
    model = FalconH1ForCausalLM(config).eval()
    with torch.inference_mode(), pytest.raises(NotImplementedError, match="cannot keep apart"):
        score_packed(model, *prompt(), head_of(model))


def test_the_head_reads_yes_minus_no_with_its_bias(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    qwen.set_attn_implementation("eager")
    logits = qwen(inputs_embeds=torch.cat([prefix, branches[0]])[None]).logits[0, -1]
    packed, _ = both(qwen, prefix, branches)
    assert (packed[0] - (logits[7] - logits[8])).abs() <= 1e-4
    hidden = torch.randn(3, WIDTH)
    plain = head_of(qwen)(hidden)
    qwen.lm_head.bias = torch.nn.Parameter(torch.arange(float(VOCABULARY)))
    try:
        torch.testing.assert_close(head_of(qwen)(hidden), plain - 1)
    finally:
        qwen.lm_head.bias = None


def test_positions_that_do_not_restart_would_be_seen(
    qwen: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = packing._decoder

    def counted_on(llm: PreTrainedModel, implementation: str) -> Callable[..., object]:
        decoder = whole(llm, implementation)

        def run(**options: Tensor) -> object:
            options["position_ids"] = torch.arange(options["position_ids"].shape[1])[None]
            return decoder(**options)

        return run

    prefix, branches = prompt()
    _, single = both(qwen, prefix, branches)
    monkeypatch.setattr(packing, "_decoder", counted_on)
    leaked = score_packed(qwen, prefix, branches, head_of(qwen))
    assert (leaked - single).abs().max() > 1e-2


def test_a_branch_that_sees_another_would_be_seen(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    fair, single = both(qwen, prefix, branches)
    merged = torch.cat([branches[0], branches[1]])  # the second reads the first
    leaked, _ = both(qwen, prefix, [merged, *branches[2:]])
    assert (fair[1] - single[1]).abs() <= 1e-4
    assert (leaked[0] - single[1]).abs() > 1e-2


def test_what_stands_in_one_branch_changes_no_other(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    before, _ = both(qwen, prefix, branches)
    branches[1] = branches[1] * -3
    after, _ = both(qwen, prefix, branches)
    is_other = torch.arange(len(branches)) != 1
    assert torch.equal(before[is_other], after[is_other])
    assert (before[1] - after[1]).abs() > 1e-2
