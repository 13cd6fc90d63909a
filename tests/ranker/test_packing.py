"""Packed scores equal scores one by one, and a leak between branches would be seen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from embedders.checkpoint import quiet  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker import packing  # noqa: E402
from ranker.attention import Masked  # noqa: E402
from ranker.config import LlmConfig  # noqa: E402
from ranker.packing import (  # noqa: E402
    AnswerHead,
    read,
    score_one_by_one,
    score_packed,
    score_passes,
    split,
)
from tests.ranker import family_world  # noqa: E402
from tests.ranker.family_world import FAMILIES, SIZES, WIDTH, loud  # noqa: E402

VOCABULARY = 50
LENGTHS = (3, 7, 4, 1, 9, 5, 2, 6)
PREFIX = 11


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreTrainedModel]:
    """Saves a model as a checkpoint and loads it, as a user's would be."""

    def saved(build: family_world.Build) -> PreTrainedModel:
        folder = tmp_path_factory.mktemp("checkpoint")
        with quiet():
            loud(build(VOCABULARY)).save_pretrained(folder)
            loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return loaded.eval().requires_grad_(False)

    return saved


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


@pytest.fixture(scope="module")
def checkpoint(llm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's folder, made once."""

    @cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        return family_world.save(FAMILIES[family], folder, tokenizer=llm_folder)

    return made


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("token_budget", [1, 30, 10_000])
def test_packed_scores_equal_scores_one_by_one(
    family: str, token_budget: int, checkpoint: Callable[[str], Path]
) -> None:
    llm = llms.load(checkpoint(family), config=LlmConfig())
    given = family_world.prompt(llm)
    head = AnswerHead(llm.model, yes=llm.yes, no=llm.no)
    with torch.inference_mode():
        packed = score_packed(
            llm.model, given.prefix, given.branches, head, token_budget=token_budget
        )
        single = score_one_by_one(llm.model, given.prefix, given.branches, head)
    assert single.std() > 0.1, "the logits must differ for the comparison to say anything"
    assert_equal(packed, single)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_packed_scores_are_as_near_the_truth_as_one_by_one(
    family: str, dtype: str, checkpoint: Callable[[str], Path]
) -> None:
    llm = llms.load(checkpoint(family), config=LlmConfig(dtype=dtype))
    given = family_world.prompt(llm, num_branches=60)
    head = AnswerHead(llm.model, yes=llm.yes, no=llm.no)
    with torch.inference_mode():
        packed = score_packed(llm.model, given.prefix, given.branches, head)
        single = score_one_by_one(llm.model, given.prefix, given.branches, head)
        llm.model.float()  # the same rounded weights, computed in full
        whole = AnswerHead(llm.model, yes=llm.yes, no=llm.no)
        branches = [one.float() for one in given.branches]
        truth = score_one_by_one(llm.model, given.prefix.float(), branches, whole)
    error, usual = ((one - truth).square().mean().sqrt() for one in (packed, single))
    assert 0 < error <= 1.5 * usual < 0.5 * truth.std()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_of_training_gives_the_scores_of_serving(
    family: str, checkpoint: Callable[[str], Path]
) -> None:
    llm = llms.load(checkpoint(family), config=LlmConfig())
    given = family_world.prompt(llm)
    head = AnswerHead(llm.model, yes=llm.yes, no=llm.no)
    lengths = torch.tensor([len(given.prefix), *map(len, given.branches)])
    segments_T = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    steps = [torch.arange(int(length)) for length in lengths]
    positions_T = torch.cat([steps[0], *(len(steps[0]) + own for own in steps[1:])])
    mask_TT = (segments_T == 0) | (segments_T == segments_T[:, None])
    with torch.inference_mode():
        packed = score_packed(llm.model, given.prefix, given.branches, head)
        hidden = llm.model.get_decoder()(
            inputs_embeds=torch.cat([given.prefix, *given.branches])[None],
            position_ids=positions_T[None],
            use_cache=False,
            packing=Masked(mask=mask_TT.tril()[None, None]),
        ).last_hidden_state
        assert_equal(head(hidden[0, lengths.cumsum(0)[1:] - 1]), packed)


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


@pytest.mark.parametrize("window", [1, 3, 9, 10, 12, 13, 19, 20, 21, 64])
@pytest.mark.parametrize("token_budget", [9, 10_000])
def test_a_window_cuts_the_prefix_where_it_cuts_a_whole_prompt(
    window: int, token_budget: int, load: Callable[..., PreTrainedModel]
) -> None:
    # 11 tokens of prefix and up to 9 of a branch: some windows end in the branch, some in the
    # prefix, 20 holds the longest prompt to the brim.
    model = load(family_world.mistral(window))
    packed, single = both(model, *prompt(), token_budget=token_budget)
    assert single.std() > 0.1
    assert_equal(packed, single)


def test_a_window_that_is_not_heeded_would_be_seen(load: Callable[..., PreTrainedModel]) -> None:
    cut, _ = both(load(family_world.mistral(12)), *prompt())
    whole, _ = both(load(family_world.mistral(None)), *prompt())
    assert (cut - whole).abs().max() > 1e-2


@pytest.mark.parametrize("window", [3, 13, 64])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_soft_caps_and_windows_in_turns_are_computed(
    window: int, softcap: float | None, load: Callable[..., PreTrainedModel]
) -> None:
    model = load(family_world.gemma2(window, softcap=softcap))
    assert_equal(*both(model, *prompt(), token_budget=20))


def test_a_soft_cap_that_is_not_heeded_would_be_seen(load: Callable[..., PreTrainedModel]) -> None:
    capped, _ = both(load(family_world.gemma2(64)), *prompt())
    free, _ = both(load(family_world.gemma2(64, softcap=None)), *prompt())
    assert (capped - free).abs().max() > 1e-2


def test_a_soft_cap_on_the_answer_is_computed(load: Callable[..., PreTrainedModel]) -> None:
    model = load(family_world.gemma2(64, softcap=None, answer_cap=0.5))
    prefix, branches = prompt()
    packed, single = both(model, prefix, branches)
    assert_equal(packed, single)
    whole = torch.cat([prefix, branches[0]])[None]
    model.set_attn_implementation("eager")
    logits = model(inputs_embeds=whole).logits[0, -1]
    assert (packed[0] - (logits[7] - logits[8])).abs() <= 1e-4


def test_positions_that_turn_by_the_whole_length_are_refused_beyond_it(
    load: Callable[..., PreTrainedModel],
) -> None:
    # 4 pairs of dimensions, each with a factor for short prompts and one for long ones
    rotation = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}

    def build(vocab_size: int) -> PreTrainedModel:
        limits = {"original_max_position_embeddings": 16, "max_position_embeddings": 64}
        config = Phi3Config(
            **sizes,
            vocab_size=vocab_size,
            rope_parameters={**rotation, "rope_theta": 1e4},
            **limits,
        )
        return Phi3ForCausalLM(config)

    model = load(build)
    short = prompt((3, 5, 4))
    assert_equal(*both(model, *short))
    with torch.inference_mode(), pytest.raises(NotImplementedError, match="beyond 16 tokens"):
        score_packed(model, *prompt((3, 6, 4)), head_of(model))


@pytest.mark.parametrize("token_budget", [9, 10_000])
def test_a_prefix_that_was_read_before_gives_the_same_bits(
    token_budget: int, qwen: PreTrainedModel
) -> None:
    prefix, branches = prompt()
    with torch.inference_mode():
        kept = read(qwen, prefix)
        before = [one.clone() for one in (*kept.keys, *kept.values)]
        cold = score_packed(qwen, prefix, branches, head_of(qwen), token_budget=token_budget)
        for _ in range(2):
            warm = score_packed(qwen, kept, branches, head_of(qwen), token_budget=token_budget)
            assert torch.equal(cold, warm)
    assert kept.num_tokens == PREFIX
    assert all(map(torch.equal, before, (*kept.keys, *kept.values))), "no pass changes a prefix"


def test_threads_that_share_a_model_get_the_scores_of_one(qwen: PreTrainedModel) -> None:
    given = [prompt((3, 7, 2 + n, 4)) for n in range(6)]
    head = head_of(qwen)

    def score(n: int) -> Tensor:
        with torch.inference_mode():
            return score_packed(qwen, *given[n], head)

    alone = [score(n) for n in range(6)]
    with ThreadPoolExecutor(4) as pool:
        for n, found in enumerate(pool.map(score, list(range(6)) * 5)):
            assert torch.equal(found, alone[n % 6])


def test_what_is_empty_is_refused(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    with pytest.raises(ValueError, match="the prefix is empty"):
        score_packed(qwen, prefix[:0], branches, head_of(qwen))
    with pytest.raises(ValueError, match="a branch is empty"):
        score_packed(qwen, prefix, [branches[0], prefix[:0]], head_of(qwen))


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


@pytest.mark.parametrize(
    ("lengths", "first", "passes"),
    [
        ([8] * 100, None, [100]),
        ([8] * 100, 256, [32, 68]),  # what is left over for a third pass joins the second
        ([8] * 130, 256, [32, 64, 34]),
        ([8] * 500, 256, [32, 64, 128, 128, 148]),
        ([3], 256, [1]),
        ([2000, 1, 2000], 256, [1, 1, 1]),
        ([], 256, []),
    ],
)
def test_passes_grow_to_the_whole_budget_and_none_is_nearly_empty(
    lengths: list[int], first: int | None, passes: list[int]
) -> None:
    found = split(lengths, first=first)
    assert [len(lengths[places]) for places in found] == passes
    assert [one for places in found for one in lengths[places]] == lengths


def test_passes_are_computed_one_at_a_time(qwen: PreTrainedModel) -> None:
    prefix, branches = prompt()
    head = head_of(qwen)
    with torch.inference_mode():
        whole = score_packed(qwen, prefix, branches, head, token_budget=13)
        kept = read(qwen, prefix)
        passes = split([len(one) for one in branches], token_budget=13)
        assert len(passes) > 2
        for number in range(1, len(passes) + 1):
            some = score_passes(qwen, kept, branches, head, passes=passes[:number])
            scores = torch.cat(list(some))
            assert torch.equal(scores, whole[: len(scores)]), "whatever follows changes no bit"
