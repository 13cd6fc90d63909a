"""The catalog's texts in, a small causal LLM in Hugging Face format out.

The embedded default, for those who have no weights at hand: a decoder of the Qwen2 architecture
and a byte-level BPE tokenizer, both made from the catalog alone, warmed up on its texts by next
token prediction (TMF's text-only warm-up) and saved by `save_pretrained`. What loads it is what
loads any other model.

Queries and keys start equal in every layer, so that attention starts by looking for what is alike
("mimetic" initialization, Trockman and Kolter, ICML 2023): a preference is a likeness, and a small
model has no time to learn that likeness matters.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from embedders.checkpoint import quiet  # noqa: E402
from ranker.config import EmbeddedLlmConfig  # noqa: E402
from ranker.prompts import FRAME  # noqa: E402

FORMAT = 3  # raised when the same texts would give another model
END = "<|end|>"

OnProgress = Callable[[str, int, int], None]


def make(
    texts: Sequence[str],
    *,
    behaviors: Sequence[str],
    folder: Path,
    config: EmbeddedLlmConfig,
    seed: int,
    phrases: Sequence[str] = FRAME,
    on_progress: OnProgress | None = None,
) -> Path:
    """Make and warm up the model, or find it made.

    Args:
        texts: What to learn from, such as titles and descriptions.
        behaviors: Words that histories are told with; the tokenizer learns them too.
        folder: Where models are kept; each has a folder of its own, named by what it was made of.
        config: Its size, and how long it is warmed up.
        seed: Equal inputs give equal weights.
        phrases: Of the prompts' frame (`ranker.prompts.frame`), each of which is one token.
        on_progress: Called with the stage's name, steps done and steps.

    Returns:
        The model's folder.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("the embedded LLM learns from the catalog's texts, and there are none")
    facts = [FORMAT, asdict(config), seed, sorted(behaviors), list(texts)]
    # What was made for the first frame keeps its name.
    made_of = json.dumps(facts if tuple(phrases) == FRAME else [*facts, list(phrases)])
    target = folder / hashlib.sha256(made_of.encode()).hexdigest()[:12]
    if (target / "config.json").is_file():
        return target
    tokenizer = _tokenizer(texts, behaviors, phrases, config)
    model = _model(tokenizer, config, seed)
    _warm_up(model, tokenizer, texts, config=config, seed=seed, on_progress=on_progress)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".making-"))
    temporary.chmod(0o755)  # a server may run as another user
    with quiet():
        model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    try:
        temporary.rename(target)
    except OSError:  # another process was faster, with the same result
        shutil.rmtree(temporary)
    return target


def _tokenizer(
    texts: Sequence[str],
    behaviors: Sequence[str],
    phrases: Sequence[str],
    config: EmbeddedLlmConfig,
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *behaviors], trainer)
    tokenizer.add_tokens(
        [AddedToken(phrase, normalized=False, single_word=phrase.isalpha()) for phrase in phrases]
    )
    # Unnamed, the unknown token would be added when loading, beyond the model's last embedding.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token=END
    )


def _model(
    tokenizer: PreTrainedTokenizerFast, config: EmbeddedLlmConfig, seed: int
) -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                intermediate_size=2 * config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_heads,
                max_position_embeddings=4096,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        with torch.no_grad():
            for layer in model.model.layers:
                torch.nn.init.orthogonal_(layer.self_attn.q_proj.weight)
                layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
    return model


def _warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    config: EmbeddedLlmConfig,
    seed: int,
    on_progress: OnProgress | None,
) -> None:
    """Next token prediction on blocks cut from all texts in a shuffled row."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(texts), generator=generator).tolist()
    tokens = [
        token
        for place in order
        for token in (*tokenizer.encode(texts[place]), tokenizer.eos_token_id)
    ]
    row_T = torch.tensor(tokens)
    if len(row_T) <= config.block_tokens:
        row_T = row_T.repeat(config.block_tokens // len(row_T) + 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    model.train()
    for step in range(config.warm_up_steps):
        starts_B = torch.randint(
            0, len(row_T) - config.block_tokens, (config.batch_size,), generator=generator
        )
        blocks_BT = row_T[starts_B[:, None] + torch.arange(config.block_tokens)]
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.warm_up_steps)
        loss = model(input_ids=blocks_BT, labels=blocks_BT).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if on_progress is not None:
            on_progress("warm-up", step + 1, config.warm_up_steps)
    model.eval()
