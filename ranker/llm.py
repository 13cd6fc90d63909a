"""A folder or hub id in, a causal LLM with its tokenizer and yes/no tokens out, on its device.

Weights come in the precision that is asked for, or in 4 bits (NF4, Dettmers et al., NeurIPS 2023):
then embeddings, norms and the output layer stay in that precision, and so does what is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from embedders.checkpoint import device_of, quiet, resolve, torch_dtype  # noqa: E402
from ranker.config import LlmConfig  # noqa: E402
from ranker.prompts import NO, YES  # noqa: E402
from ranker.quoting import encode, quoting  # noqa: E402

KEPT_PHRASES = 1024
INSTALL = "pip install 'sommelier[quantize]'"


@dataclass(frozen=True, kw_only=True)
class Llm:
    """A loaded model, frozen and in evaluation mode, on its device."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    yes: int
    """The token whose logit says that the candidate is chosen."""
    no: int
    source: str
    revision: str
    """The hub's commit, or the digest of the folder's files."""

    @property
    def hidden_size(self) -> int:
        """The width of its word embeddings."""
        return int(self.model.get_input_embeddings().get_parameter("weight").shape[1])

    @cached_property
    def tokenize(self) -> Callable[[str], Sequence[int]]:
        """Text of ours -> token ids, without any special tokens around them; the latest are kept,
        for the frame's phrases come back with every candidate."""
        tokenizer = self.tokenizer  # self holds this function: a circle would outlive its last user

        @lru_cache(maxsize=KEPT_PHRASES)
        def tokenize(text: str) -> Sequence[int]:
            return tuple(encode(tokenizer, text))

        return tokenize

    @cached_property
    def quote(self) -> Callable[[str], Sequence[int]]:
        """Text of others -> token ids, none of which is a control token; the latest are kept."""
        return quoting(self.tokenizer)


def load(source: str | Path, *, config: LlmConfig) -> Llm:
    """Load a causal LLM.

    Raises:
        ValueError: no such folder or device, an unpinned hub id, weights that are not safetensors
            or are not all there, or a tokenizer that lacks yes or no, or begins both alike.
        ImportError: it is to be quantized, and bitsandbytes is not installed.
    """
    device = device_of(config.device)
    quantization = _quantization(config, device=device)
    checkpoint = resolve(source, revision=config.revision)
    options = {**checkpoint.options, "trust_remote_code": config.trust_remote_code}
    auto_class: Any = AutoModelForCausalLM
    with quiet():
        # `resolve` lets no hub id pass without its full commit, which is among the options.
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.source, **options)  # nosec B615
        model, report = auto_class.from_pretrained(
            checkpoint.source,
            dtype=torch_dtype(config.dtype),
            use_safetensors=True,
            output_loading_info=True,
            **quantization,
            **options,
        )
    if not quantization:
        model.to(device)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(model).__name__}, the first is "
            f"{missing[0]!r}; take a checkpoint of the whole causal LLM"
        )
    model.requires_grad_(False).eval()
    yes, no = (_first_token(tokenizer, word) for word in (YES, NO))
    if yes == no:
        raise ValueError(
            f"{source}: its tokenizer begins {YES!r} and {NO!r} with the same token; choose a "
            f"model that tells them apart"
        )
    return Llm(
        model=model,
        tokenizer=tokenizer,
        yes=yes,
        no=no,
        source=checkpoint.source,
        revision=checkpoint.revision,
    )


def _quantization(config: LlmConfig, *, device: str) -> dict[str, Any]:
    """What loading is told; nothing where weights stay whole."""
    if config.quantization is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise ImportError(
            f"quantization = {config.quantization!r} needs bitsandbytes: run `{INSTALL}`, or leave "
            f"quantization out"
        )
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(config.dtype),
    )
    return {"quantization_config": how, "device_map": {"": device}}


def _first_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    tokens = encode(tokenizer, word)
    if not tokens:
        raise ValueError(f"{tokenizer.name_or_path}: its tokenizer has no token for {word!r}")
    return tokens[0]
