"""An LLM in, LoRA modules inside its linear layers out: made, chosen, saved, loaded, merged.

There may be several (ATFLRec, arXiv 2409.08543): one that is trained where prompts hold words
alone, one where they hold item tokens. Each has a name, as peft's adapters do; whichever are
active are summed in every layer, which is what merging them gives as well:

    W x + (alpha / rank) (B_text A_text + B_modal A_modal) x

The paper says that modules trained apart and then combined came out best. Their sum, in the order
of training, over all linear layers, is this project's own resolution.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from peft import (  # noqa: E402
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer  # noqa: E402
from peft.tuners.tuners_utils import BaseTuner  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from embedders.checkpoint import quiet  # noqa: E402
from ranker.config import LlmConfig  # noqa: E402

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def wrap(llm: PreTrainedModel, config: LlmConfig) -> PeftModel:
    """Put fresh modules, by `config.lora_names`, into every linear layer; all are active."""
    first, *others = config.lora_names
    wrapped = cast(PeftModel, get_peft_model(llm, _settings(config), adapter_name=first))
    for name in others:
        wrapped.add_adapter(name, _settings(config))
    activate(wrapped, config.lora_names)
    train(wrapped, config.lora_names)
    return wrapped


def names(wrapped: PeftModel) -> tuple[str, ...]:
    """The modules, in the order in which they were made."""
    return tuple(wrapped.peft_config)


def activate(wrapped: PeftModel, chosen: Collection[str]) -> None:
    """Sum these modules and no others; none leaves the LLM as it was. What is trained stays so.

    Raises:
        ValueError: there is no such module.
    """
    _check(wrapped, chosen)
    trained = {key: one.requires_grad for key, one in wrapped.named_parameters()}
    _tuner(wrapped).set_adapter([name for name in names(wrapped) if name in chosen])
    for key, one in wrapped.named_parameters():  # peft trains whatever it activates
        one.requires_grad_(trained[key])


def train(wrapped: PeftModel, chosen: Collection[str]) -> None:
    """Train these modules and no others.

    Raises:
        ValueError: there is no such module.
    """
    _check(wrapped, chosen)
    for name in names(wrapped):
        _tuner(wrapped).set_requires_grad(name, name in chosen)


def state(wrapped: PeftModel) -> dict[str, Tensor]:
    """Every weight of every module, by `<module>.<weight>`."""
    return {
        f"{name}.{key}": value.contiguous()
        for name in names(wrapped)
        for key, value in _state(wrapped, name).items()
    }


def load_state(wrapped: PeftModel, given: Mapping[str, Tensor]) -> None:
    """The reverse of `state`.

    Raises:
        ValueError: weights are missing, or there are others.
        RuntimeError: a weight has another shape.
    """
    if different := sorted(state(wrapped).keys() ^ given.keys()):
        raise ValueError(f"LoRA weights that only the model or only the file has: {different}")
    for name in names(wrapped):
        prefix = f"{name}."
        own = {key.removeprefix(prefix): given[key] for key in given if key.startswith(prefix)}
        set_peft_model_state_dict(wrapped, own, adapter_name=name)


def save(wrapped: PeftModel, folder: Path) -> None:
    """Write each module to a folder of its name, as peft reads it."""
    with quiet():
        # Embeddings are never tuned; else peft would look the LLM up on the hub to find out.
        wrapped.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    for name in names(wrapped):
        _sort_targets(folder / name / SETTINGS)


def load(llm: PreTrainedModel, folder: Path, config: LlmConfig) -> PeftModel:
    """Put saved modules into the LLM; all are active.

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: a file is missing or damaged, or does
            not fit the LLM or the configuration.
    """
    wrapped = wrap(llm, config)
    # Our configuration says what the modules are; peft's, which lies beside them, is not asked.
    files = {name: load_file(folder / name / WEIGHTS) for name in names(wrapped)}
    load_state(
        wrapped,
        {f"{name}.{key}": value for name, own in files.items() for key, value in own.items()},
    )
    return wrapped


def merge(wrapped: PeftModel) -> PreTrainedModel:
    """The LLM with the sum of all its modules in its own weights; those keep their dtype.

    Sums are made in float32, layer by layer, and rounded once: merging in half precision moves
    the scores, and a whole LLM in float32 may not fit.
    """
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            base = layer.get_base_layer()
            dtype = base.get_parameter("weight").dtype
            base.to(torch.float32)
            layer.merge(adapter_names=list(names(wrapped)))
            base.to(dtype)
    return cast(PreTrainedModel, wrapped.unload())


def _settings(config: LlmConfig) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _state(wrapped: PeftModel, name: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = get_peft_model_state_dict(
        wrapped, adapter_name=name, save_embedding_layers=False
    )
    return found


def _tuner(wrapped: PeftModel) -> BaseTuner:
    """What can activate several modules at once."""
    return cast(BaseTuner, wrapped.base_model)


def _check(wrapped: PeftModel, chosen: Collection[str]) -> None:
    if unknown := sorted(set(chosen) - set(names(wrapped))):
        raise ValueError(f"no LoRA module {unknown}; there are {', '.join(names(wrapped))}")


def _sort_targets(path: Path) -> None:
    """peft writes sets in an order that changes from process to process."""
    facts = json.loads(path.read_text())
    facts["target_modules"] = sorted(facts["target_modules"])
    path.write_text(json.dumps(facts, indent=2, sort_keys=True))
