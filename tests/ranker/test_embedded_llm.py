"""The catalog's texts become a causal LLM that anything reading Hugging Face's format can load."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from embedders.checkpoint import quiet  # noqa: E402
from ranker import embedded_llm  # noqa: E402
from ranker.prompts import FRAME, NO, PHRASES, PREFERENCE, YES  # noqa: E402
from tests.ranker import model_world  # noqa: E402
from tests.ranker.model_world import BEHAVIORS, CONFIG, TEXTS  # noqa: E402

EMBEDDED = CONFIG.llm.embedded


def perplexity(folder: Path) -> float:
    """Over all texts, by a fresh load."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    row = torch.tensor([token for text in TEXTS for token in tokenizer.encode(text)])[None]
    with torch.inference_mode():
        return math.exp(float(model(input_ids=row, labels=row).loss))


def test_any_loader_of_hugging_face_reads_it(llm_folder: Path) -> None:
    with quiet():
        model, report = AutoModelForCausalLM.from_pretrained(llm_folder, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    assert not report["missing_keys"]
    assert model.config.architectures == ["Qwen2ForCausalLM"]
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    for text in (*TEXTS, "Æbleskiver, 東京 🎻", "view", "<|endoftext|>"):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert max(tokens) < len(tokenizer)
    assert tokenizer.decode(model.generate(torch.tensor([[5]]), max_new_tokens=2)[0])


def test_each_phrase_of_the_frame_is_one_token_of_its_own(llm_folder: Path) -> None:
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    tokens = [tokenizer.encode(phrase, add_special_tokens=False) for phrase in FRAME]
    assert [len(one) for one in tokens] == [1] * len(FRAME)
    assert len({one[0] for one in tokens}) == len(FRAME)
    assert tokenizer.encode(YES) != tokenizer.encode(NO)


def test_a_phrase_that_only_some_prompts_have_grows_only_their_llm(
    llm_folder: Path, tmp_path: Path
) -> None:
    assert model_world.make_llm(tmp_path, phrases=list(FRAME)).name == llm_folder.name
    grown = model_world.make_llm(tmp_path, phrases=PHRASES)
    assert grown.name != llm_folder.name
    with quiet():
        one, other = (AutoTokenizer.from_pretrained(path) for path in (llm_folder, grown))
    assert len(other) == len(one) + 1
    assert len(other.encode(PREFERENCE, add_special_tokens=False)) == 1
    assert len(one.encode(PREFERENCE, add_special_tokens=False)) > 1, "words like any others"


def test_equal_texts_and_seeds_make_equal_folders(llm_folder: Path, tmp_path: Path) -> None:
    again = embedded_llm.make(
        TEXTS, behaviors=BEHAVIORS[::-1], folder=tmp_path, config=EMBEDDED, seed=1
    )
    assert again.name == llm_folder.name
    names = sorted(path.name for path in llm_folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (again / name).read_bytes() == (llm_folder / name).read_bytes(), name


def test_another_seed_makes_another_model(llm_folder: Path, tmp_path: Path) -> None:
    other = embedded_llm.make(TEXTS, behaviors=BEHAVIORS, folder=tmp_path, config=EMBEDDED, seed=2)
    assert other.name != llm_folder.name
    one, another = (load_file(path / "model.safetensors") for path in (llm_folder, other))
    assert one.keys() == another.keys()
    assert not all(torch.equal(one[name], another[name]) for name in one)


def test_a_second_call_finds_what_the_first_made(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    for _ in range(2):
        folder = embedded_llm.make(
            TEXTS,
            behaviors=BEHAVIORS,
            folder=tmp_path / "models",
            config=EMBEDDED,
            seed=3,
            on_progress=lambda *step: steps.append(step),
        )
    assert steps == [("warm-up", step, 4) for step in range(1, 5)]
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


def test_the_warm_up_teaches_it_the_texts(tmp_path: Path) -> None:
    before, after = (
        embedded_llm.make(
            TEXTS,
            behaviors=BEHAVIORS,
            folder=tmp_path,
            config=replace(EMBEDDED, warm_up_steps=steps, batch_size=8),
            seed=1,
        )
        for steps in (0, 60)
    )
    assert perplexity(after) < perplexity(before) / 4


def test_queries_and_keys_start_equal(tmp_path: Path) -> None:
    config = replace(EMBEDDED, warm_up_steps=0)
    folder = embedded_llm.make(TEXTS, behaviors=(), folder=tmp_path, config=config, seed=1)
    weights = load_file(folder / "model.safetensors")
    for layer in range(config.num_layers):
        name = f"model.layers.{layer}.self_attn"
        query, key = weights[f"{name}.q_proj.weight"], weights[f"{name}.k_proj.weight"]
        assert torch.equal(query, key)
        torch.testing.assert_close(query @ query.T, torch.eye(len(query)), atol=1e-5, rtol=0)


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    config = replace(EMBEDDED, warm_up_steps=1)
    embedded_llm.make(TEXTS, behaviors=(), folder=tmp_path, config=config, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_fewer_texts_than_a_block_are_enough(tmp_path: Path) -> None:
    config = replace(EMBEDDED, warm_up_steps=1, block_tokens=64)
    folder = embedded_llm.make(["wine"], behaviors=(), folder=tmp_path, config=config, seed=1)
    assert (folder / "config.json").is_file()


def test_no_text_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="learns from the catalog's texts, and there are none"):
        embedded_llm.make([], behaviors=BEHAVIORS, folder=tmp_path, config=EMBEDDED, seed=1)
