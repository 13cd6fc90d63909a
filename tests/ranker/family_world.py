"""Tiny checkpoints of the families of LLMs, with random weights and a real tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
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
    SiglipVisionConfig,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from embedders.checkpoint import quiet  # noqa: E402
from ranker.llm import Llm  # noqa: E402

WIDTH = 32
SIZES = {
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
FOUR = {**SIZES, "num_hidden_layers": 4}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]

Build = Callable[[int], PreTrainedModel]
"""A vocabulary's size -> a model."""


def mistral(window: int | None) -> Build:
    return lambda vocab_size: MistralForCausalLM(
        MistralConfig(**SIZES, vocab_size=vocab_size, sliding_window=window)
    )


def gemma2(window: int, *, softcap: float | None = 5.0, answer_cap: float | None = 30.0) -> Build:
    """Sliding and whole layers in turns; the caps are small, so that they bend."""
    return lambda vocab_size: Gemma2ForCausalLM(
        Gemma2Config(
            **FOUR,
            vocab_size=vocab_size,
            sliding_window=window,
            layer_types=MIXED,
            attn_logit_softcapping=softcap,
            final_logit_softcapping=answer_cap,
            query_pre_attn_scalar=8,
        )
    )


def gemma3_config(vocab_size: int) -> Gemma3TextConfig:
    """Local layers turn their positions faster than global ones."""
    return Gemma3TextConfig(
        **FOUR,
        vocab_size=vocab_size,
        sliding_window=13,
        layer_types=MIXED,
        query_pre_attn_scalar=8,
    )


def gemma3_with_images(vocab_size: int) -> PreTrainedModel:
    """The larger ones carry a vision tower, of which text needs nothing."""
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    whole = Gemma3Config(
        text_config=gemma3_config(vocab_size), vision_config=vision, mm_tokens_per_image=4
    )
    return Gemma3ForConditionalGeneration(whole)


FAMILIES: dict[str, Build] = {
    "qwen2": lambda size: Qwen2ForCausalLM(Qwen2Config(**QWEN2, vocab_size=size)),
    "qwen2-sliding": lambda size: Qwen2ForCausalLM(
        Qwen2Config(
            **QWEN2,
            vocab_size=size,
            use_sliding_window=True,
            sliding_window=13,
            max_window_layers=1,
        )
    ),
    "qwen3": lambda size: Qwen3ForCausalLM(Qwen3Config(**SIZES, vocab_size=size)),
    "llama": lambda size: LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=size)),
    "mistral": mistral(None),
    "mistral-sliding": mistral(13),
    "gemma": lambda size: GemmaForCausalLM(GemmaConfig(**SIZES, vocab_size=size)),
    "gemma2": gemma2(13),
    "gemma3": lambda size: Gemma3ForCausalLM(gemma3_config(size)),
    "gemma3-images": gemma3_with_images,
    "smollm": lambda size: LlamaForCausalLM(
        LlamaConfig(**SIZES, vocab_size=size, tie_word_embeddings=True)
    ),
    "smollm3": lambda size: SmolLM3ForCausalLM(
        SmolLM3Config(**FOUR, vocab_size=size, no_rope_layer_interval=2)
    ),
}


def save(build: Build, folder: Path, *, tokenizer: Path) -> Path:
    """A checkpoint with another model's tokenizer, as a user's folder would be."""
    with quiet():
        words = AutoTokenizer.from_pretrained(tokenizer)
        model = loud(build(len(words)))
        model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def loud(model: PreTrainedModel) -> PreTrainedModel:
    """Fresh weights are so small that every branch gets the same logit; these are not."""
    generator = torch.Generator().manual_seed(3)
    words = model.get_input_embeddings().get_parameter("weight")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                size = 1.0 if weight is words else 2.5
                weight.copy_(torch.randn(weight.shape, generator=generator))
                weight.mul_(weight.shape[1] ** -0.5 * size)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Words and soft tokens, embedded."""

    prefix: Tensor
    branches: list[Tensor]


def prompt(llm: Llm, *, num_branches: int = 8, num_soft: int = 2) -> Prompt:
    """A history of 18 tokens and branches of 5 to 12, each about another item."""
    generator = torch.Generator().manual_seed(4)
    embed = llm.model.get_input_embeddings()
    size = embed(torch.arange(200, device=llm.model.device)).float().square().mean().sqrt().cpu()

    def words(text: str) -> Tensor:
        ids = torch.tensor(list(llm.tokenize(text)), device=llm.model.device)
        return embed(ids).detach().cpu()

    def soft(count: int) -> Tensor:
        tokens = torch.randn(count, llm.hidden_size, generator=generator) * size
        return tokens.to(words("red").dtype)

    prefix = torch.cat([words("history: red wine old bread"), soft(14)])[:18]
    branches = []
    for n in range(num_branches):
        title = words("blue cheese song young tower night piano"[: 4 + 3 * (n % 5)])
        whole = [words("candidate:"), title[:6], soft(num_soft + n % 3), words("choose?")]
        branches.append(torch.cat(whole))
    assert len(prefix) == 18
    return Prompt(prefix=prefix, branches=branches)
