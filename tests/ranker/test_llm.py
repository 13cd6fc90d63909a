"""A folder in Hugging Face format becomes a frozen LLM, or an error that says what to mend."""

import shutil
from pathlib import Path

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import BPE, WordLevel  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from embedders.checkpoint import quiet, resolve  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker.config import LlmConfig  # noqa: E402


def test_a_loaded_llm_is_frozen_and_knows_yes_from_no(llm_folder: Path) -> None:
    llm = llms.load(llm_folder, config=LlmConfig())
    assert not llm.model.training
    assert not any(weight.requires_grad for weight in llm.model.parameters())
    assert llm.tokenizer.decode([llm.yes]) == "yes"
    assert llm.tokenizer.decode([llm.no]) == "no"
    assert llm.hidden_size == 32
    assert (llm.source, llm.revision) == (str(llm_folder), resolve(llm_folder).revision)


def test_text_is_tokenized_without_anything_around_it(llm_folder: Path) -> None:
    llm = llms.load(llm_folder, config=LlmConfig())
    tokens = llm.tokenize("red wine")
    assert llm.tokenizer.decode(list(tokens)) == "red wine"
    assert llm.tokenize("red wine") is tokens, "the latest texts are kept"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_read_as_asked(dtype: str, llm_folder: Path) -> None:
    llm = llms.load(str(llm_folder), config=LlmConfig(dtype=dtype))
    assert llm.model.dtype == getattr(torch, dtype)


def save_mistral(folder: Path, *, vocab_size: int) -> None:
    config = MistralConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    with quiet():
        MistralForCausalLM(config).save_pretrained(folder)


def test_another_family_is_loaded_by_the_same_code(llm_folder: Path, tmp_path: Path) -> None:
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    tokenizer.save_pretrained(tmp_path)
    save_mistral(tmp_path, vocab_size=len(tokenizer))
    llm = llms.load(tmp_path, config=LlmConfig())
    assert type(llm.model).__name__ == "MistralForCausalLM"
    assert llm.hidden_size == 16


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither an existing folder nor a hub id"):
        llms.load(tmp_path / "gone", config=LlmConfig())


def test_a_hub_id_needs_the_full_commit() -> None:
    with pytest.raises(ValueError, match="pin a revision of 'org/llm'"):
        llms.load("org/llm", config=LlmConfig(revision="main"))


def test_weights_that_are_missing_are_not_drawn_at_random(llm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(llm_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of Qwen2ForCausalLM.*up_proj"):
        llms.load(folder, config=LlmConfig())


def test_a_tokenizer_in_which_yes_and_no_begin_alike_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "wine": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    save_mistral(tmp_path, vocab_size=2)
    with pytest.raises(ValueError, match="begins 'yes' and 'no' with the same token"):
        llms.load(tmp_path, config=LlmConfig())


def test_a_tokenizer_without_a_token_for_yes_is_refused(tmp_path: Path) -> None:
    letters = Tokenizer(BPE({"w": 0, "i": 1, "n": 2}, []))
    PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(tmp_path)
    save_mistral(tmp_path, vocab_size=3)
    with pytest.raises(ValueError, match="has no token for 'yes'"):
        llms.load(tmp_path, config=LlmConfig())
