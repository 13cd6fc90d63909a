"""Values that cannot work are refused when the configuration is made, with those that can."""

import subprocess
import sys

import pytest

from ranker.config import FusionConfig, LlmConfig, PromptConfig, RankerConfig, TrainingConfig


def test_the_defaults_hold_together() -> None:
    config = RankerConfig()
    assert config == RankerConfig()
    assert config.fusion.width % config.fusion.heads == 0
    assert config.llm.embedded.hidden_size % config.llm.embedded.num_heads == 0


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 4"):
        FusionConfig(width=10)


def test_a_fusion_of_no_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="width 64 must be a multiple of heads 0"):
        FusionConfig(heads=0)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropping_everything_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"modality_dropout lies in \[0, 1\), got {share}"):
        FusionConfig(modality_dropout=share)
    with pytest.raises(ValueError, match=rf"lora_dropout lies in \[0, 1\), got {share}"):
        LlmConfig(lora_dropout=share)


@pytest.mark.parametrize("num_tokens", [0, 17])
def test_too_few_or_too_many_tokens_are_refused(num_tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"num_tokens lies in 1..16, got {num_tokens}"):
        FusionConfig(num_tokens=num_tokens)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float32, bfloat16 or float16, got 'int8'"):
        LlmConfig(dtype="int8")


def test_a_prompt_that_could_say_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="history_limit must be at least 0, got -1"):
        PromptConfig(history_limit=-1)
    with pytest.raises(ValueError, match="title_tokens must be at least 1, got 0"):
        PromptConfig(title_tokens=0)


@pytest.mark.parametrize("name", ["text_tokens", "summary_tokens", "preference_tokens"])
def test_fewer_tokens_than_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        PromptConfig(**{name: -1})  # type: ignore[arg-type]


def test_summaries_without_a_place_to_stand_are_refused() -> None:
    with pytest.raises(ValueError, match="set history, candidates or both to 'titles' or 'both'"):
        PromptConfig(summary_tokens=8)
    assert PromptConfig(summary_tokens=8, candidates="both").history == "tokens"
    assert PromptConfig(summary_tokens=8, history="titles").candidates == "tokens"


def test_lora_of_an_unknown_kind_or_of_no_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="lora is one of shared, text, modal, separate, joint"):
        LlmConfig(lora="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lora_rank must be at least 1, got 0"):
        LlmConfig(lora_rank=0)


def test_an_unknown_loss_is_refused() -> None:
    known = "'listwise', 'pointwise', 'answer', 'sequence'"
    with pytest.raises(ValueError, match=f"loss is one of {known}, got 'hinge'"):
        TrainingConfig(loss="hinge")


def test_naming_a_configuration_loads_nothing_heavy() -> None:
    code = "import sys, ranker.config; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
