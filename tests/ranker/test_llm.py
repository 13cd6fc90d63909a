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
from ranker.packing import AnswerHead, score_one_by_one, score_packed  # noqa: E402
from tests.ranker import family_world  # noqa: E402
from tests.ranker.family_world import FAMILIES, WIDTH  # noqa: E402


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


def test_no_device_but_one_that_torch_knows(llm_folder: Path) -> None:
    assert llms.load(llm_folder, config=LlmConfig(device="cpu")).model.device.type == "cpu"
    with pytest.raises(ValueError, match="no device 'gqu'"):
        llms.load(llm_folder, config=LlmConfig(device="gqu"))


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_is_taken_where_there_is_one_and_scores_alike(
    family: str, llm_folder: Path, tmp_path: Path
) -> None:
    folder = family_world.save(FAMILIES[family], tmp_path, tokenizer=llm_folder)
    here = llms.load(folder, config=LlmConfig(device="cpu"))
    there = llms.load(folder, config=LlmConfig())
    assert there.model.device.type == "cuda"
    given = family_world.prompt(here)
    with torch.inference_mode():
        scores = [
            score_packed(
                llm.model,
                given.prefix,
                given.branches,
                AnswerHead(llm.model, yes=llm.yes, no=llm.no),
            )
            for llm in (here, there)
        ]
    assert scores[1].device.type == "cpu"
    assert (scores[0] - scores[1]).abs().max() < 1e-2 * scores[0].std()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_four_bits_an_llm_scores_packed_as_one_by_one_and_near_the_whole(
    dtype: str, llm_folder: Path, tmp_path: Path
) -> None:
    folder = family_world.save(FAMILIES["llama"], tmp_path, tokenizer=llm_folder)
    whole = llms.load(folder, config=LlmConfig())
    small = llms.load(folder, config=LlmConfig(quantization="4bit", dtype=dtype))
    layer = small.model.model.layers[0]
    assert layer.mlp.up_proj.weight.dtype == torch.uint8
    assert layer.mlp.up_proj.weight.numel() == WIDTH * 48 // 2, "two weights a byte"
    assert layer.input_layernorm.weight.dtype == getattr(torch, dtype)
    given = family_world.prompt(small, num_branches=30)
    head = AnswerHead(small.model, yes=small.yes, no=small.no)
    with torch.inference_mode():
        packed = score_packed(small.model, given.prefix, given.branches, head)
        single = score_one_by_one(small.model, given.prefix, given.branches, head)
        head = AnswerHead(whole.model, yes=whole.yes, no=whole.no)
        branches = [one.float() for one in given.branches]
        truth = score_packed(whole.model, given.prefix.float(), branches, head)
    assert (packed - single).abs().max() < (1e-4 if dtype == "float32" else 0.3 * single.std())
    assert torch.corrcoef(torch.stack([packed, truth]))[0, 1] > 0.5


def test_four_bits_without_bitsandbytes_say_what_to_install(
    llm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llms, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'sommelier\[quantize\]'"):
        llms.load(llm_folder, config=LlmConfig(quantization="4bit"))


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
