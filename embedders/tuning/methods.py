"""An embedder and a method in, the network with fresh parameters by peft's own method out.

Which layers a method goes into is found by running the network once and looking at what ran, so
that an untouched part (the text tower below a picture's vector) neither gets parameters nor counts
as the encoder's:

    lora    every linear layer of the attention, by `rank`, scaled by 2
    ia3     the attention's keys and values, and what brings the feed-forward back
    bitfit  the bias of every linear layer that has one (peft calls it BEFT); the biases of layer
            norms, which BitFit (arXiv 2106.10199) trains as well, stay
    prompt  virtual tokens before the text's own
    prefix  virtual keys and values before every layer's own

Where no part ran inside an attention (convolutional models), lora takes every linear layer. All
but the new parameters is frozen; dropout is off throughout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from peft import PeftConfig, PeftModel, get_peft_model  # noqa: E402
from torch import nn  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

from embedders.adapted import Prompted  # noqa: E402
from embedders.adapter import PEFT_TYPES  # noqa: E402
from embedders.differentiable import Differentiable  # noqa: E402
from embedders.tuning.config import Method, TuningConfig  # noqa: E402

TOKENS: tuple[Method, ...] = ("prompt", "prefix")  # methods that need tokens before which to stand
LORA_SCALE = 2  # alpha / rank
PREFIX_STD = 0.02  # peft's own start, of 1, drowns the text
PROBE_TOLERANCE = 1e-4
# How the layers for keys and values are called in transformers, alone or side by side.
KEYS_AND_VALUES = {
    *("k", "v", "key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "key_proj", "value_proj"),
    *("c_attn", "in_proj", "qkv", "qkv_proj", "query_key_value", "Wqkv"),
}


def ran(embedder: Differentiable) -> dict[str, nn.Module]:
    """The modules that a content passes through, by name, in the network's order."""
    seen: set[nn.Module] = set()
    network = embedder.network

    def note(module: nn.Module, _inputs: Any) -> None:
        seen.add(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            embedder.forward([embedder.probe()])
    finally:
        for hook in hooks:
            hook.remove()
    seen.add(network)  # some are called by another method than forward
    return {name: module for name, module in network.named_modules() if module in seen}


def adapt(embedder: Differentiable, config: TuningConfig) -> PeftModel:
    """Put fresh parameters into the embedder's network, seeded; everything else is frozen.

    Raises:
        ValueError: the method cannot be put into this network; the message names those that can.
    """
    network = embedder.network
    layers: dict[str, nn.Module] = {
        name: module
        for name, module in ran(embedder).items()
        if isinstance(module, nn.Linear | Conv1D)
    }
    try:
        if config.method in TOKENS:
            if not embedder.reads_tokens:
                raise ValueError("it reads no tokens")
            embedder.reserve(config.num_virtual_tokens)
        settings = _settings(config, network, layers)
        with _seeded(config.seed):
            wrapped = cast(PeftModel, get_peft_model(network, settings))
            if config.method == "prefix":
                for weight in wrapped.prompt_encoder.parameters():
                    nn.init.normal_(weight, std=PREFIX_STD)
        if config.method in TOKENS:
            embedder.network = Prompted(wrapped).eval()
            _check_tokens(embedder)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        embedder.network = network
        others = [one for one in _fitting(embedder, layers) if one != config.method]
        raise ValueError(
            f"{config.method!r} cannot be put into {type(network).__name__} ({error}); "
            + (f"take one of {', '.join(others)}" if others else "no method can")
        ) from error
    wrapped.eval()
    return wrapped


def _fitting(embedder: Differentiable, layers: dict[str, nn.Module]) -> list[Method]:
    """The methods that find what they change, as far as can be told without trying."""
    found: list[Method] = ["lora"] if layers else []
    if _keys_and_values(layers):
        found.append("ia3")
    if _biased(layers):
        found.append("bitfit")
    return [*found, *(TOKENS if embedder.reads_tokens else ())]


def _settings(config: TuningConfig, network: nn.Module, layers: dict[str, nn.Module]) -> PeftConfig:
    chosen: dict[str, Any]
    match config.method:
        case "lora":
            inside = _in_attention(network, layers)
            chosen = {
                "r": config.rank,
                "lora_alpha": LORA_SCALE * config.rank,
                "target_modules": sorted(inside or layers),
            }
        case "ia3":
            back = [name for name in layers if name not in _in_attention(network, layers)]
            back = [name for name in back if _narrows(layers[name])]
            chosen = {
                "target_modules": sorted([*_keys_and_values(layers), *back]),
                "feedforward_modules": sorted(back),
            }
        case "bitfit":
            chosen = {"target_modules": sorted(_biased(layers))}
        case "prompt":
            chosen = {
                "num_virtual_tokens": config.num_virtual_tokens,
                "prompt_tuning_init": "SAMPLE_VOCAB",  # words, since noise drowns the text
            }
        case "prefix":
            chosen = {"num_virtual_tokens": config.num_virtual_tokens}
    if not chosen.get("target_modules", True):
        raise ValueError("it has no layer of the kind that is tuned")
    if any(isinstance(layers[name], Conv1D) for name in chosen.get("target_modules", ())):
        chosen["fan_in_fan_out"] = True
    settings: PeftConfig = PeftConfig.from_peft_type(
        peft_type=PEFT_TYPES[config.method], task_type="FEATURE_EXTRACTION", **chosen
    )
    return settings


def _in_attention(network: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """The layers that lie inside a module whose class says that it attends."""
    found = []
    for name in layers:
        above = name.split(".")[:-1]
        classes = [
            type(network.get_submodule(".".join(above[: depth + 1]))).__name__
            for depth in range(len(above))
        ]
        # A pooling head attends once, with a feed-forward of its own in it.
        if any("Attention" in each and "Pool" not in each for each in classes):
            found.append(name)
    return found


def _keys_and_values(layers: dict[str, nn.Module]) -> list[str]:
    return [name for name in layers if name.rpartition(".")[2] in KEYS_AND_VALUES]


def _biased(layers: dict[str, nn.Module]) -> list[str]:
    """Those that peft can put another bias on."""
    return [
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear) and layer.bias is not None
    ]


def _narrows(layer: nn.Module) -> bool:
    """Whether it brings a feed-forward back to the network's width."""
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]) > int(layer.weight.shape[1])
    return isinstance(layer, nn.Linear) and layer.in_features > layer.out_features


def _check_tokens(embedder: Differentiable) -> None:
    """Virtual tokens must reach the vector, whatever the padding.

    Raises:
        ValueError: they do not.
    """
    probe = embedder.probe()
    vectors_ND = embedder.forward([probe, _longer(probe)])
    alone_1D = embedder.forward([probe])
    if (vectors_ND[:1] - alone_1D).abs().max() > PROBE_TOLERANCE:
        raise ValueError("its vectors would depend on the padding")
    vectors_ND.sum().backward()
    trained = [each for each in embedder.network.parameters() if each.requires_grad]
    if not any(each.grad is not None and each.grad.any() for each in trained):
        raise ValueError("virtual tokens do not reach its vectors")
    for each in trained:
        each.grad = None


def _longer(probe: Any) -> Any:
    """Another content of a text encoder that is longer: token ids or words."""
    return f"{probe} {probe} {probe}" if isinstance(probe, str) else [*probe, *probe, *probe]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers by a seed within the block, and none taken from those outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
