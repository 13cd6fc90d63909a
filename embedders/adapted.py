"""A network and an adapter in, the network that answers with the adapter out.

What an adapter adds to layers is summed into their weights (LoRA, IA3, BitFit), so that embedding
costs what it did; virtual tokens (prompt, prefix) stay beside the weights, and the answer's states
are those of the text's own tokens alone, whatever pools them.

Shape legend: N texts, P virtual tokens, T tokens.
"""

from typing import Any, cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from peft import (  # noqa: E402
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from embedders.adapter import WEIGHTS, Adapter  # noqa: E402

# Settings that may differ from peft's defaults: those that are computed with here, by method ...
USED = {
    "LORA": {
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "fan_in_fan_out",
    },
    "IA3": {"target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out"},
    "BEFT": {"target_modules"},
    "PROMPT_TUNING": {"num_virtual_tokens"},
    "PREFIX_TUNING": {"num_virtual_tokens"},
}
# ... and those that say how an adapter began and where it comes from.
HARMLESS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "init_ia3_weights",
    "init_weights",
    "lora_dropout",
    "peft_type",
    "peft_version",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "revision",
    "task_type",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
    # Of virtual tokens, read off the network:
    "encoder_hidden_size",
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "token_dim",
}
PLAIN_STARTS = (True, False, "gaussian")  # of LoRA; others also change the weights below


class Prompted(nn.Module):
    """A text network with virtual tokens, which answers as one without: a state for each token."""

    def __init__(self, wrapped: PeftModel) -> None:
        super().__init__()
        self.wrapped = wrapped
        settings = wrapped.active_peft_config
        self.num_virtual_tokens = int(settings.num_virtual_tokens)
        self._is_prefix = settings.peft_type == "PREFIX_TUNING"
        self._is_causal = any(
            getattr(module, "is_causal", False) for module in wrapped.get_base_model().modules()
        )

    @property
    def config(self) -> Any:
        """The network's own."""
        return self.wrapped.get_base_model().config

    @property
    def embeddings(self) -> Any:
        """The network's own; None where it has no module of this name."""
        return getattr(self.wrapped.get_base_model(), "embeddings", None)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_unread: Any) -> Any:
        """Token ids and their mask [N, T] -> the network's output, its last states [N, T, D].

        Token types are those of a single segment whatever is passed.
        """
        if self._is_prefix and not self._is_causal:
            # Such networks make their mask as wide as the text; one that is given is taken.
            output = self.wrapped.get_base_model()(
                input_ids=input_ids,
                attention_mask=self._wide_mask(attention_mask),
                past_key_values=self.wrapped.get_prompt(len(input_ids)),
            )
        else:
            output = self.wrapped(input_ids=input_ids, attention_mask=attention_mask)
        output.last_hidden_state = output.last_hidden_state[:, -input_ids.shape[1] :]
        return output

    def _wide_mask(self, mask_NT: Tensor) -> Tensor:
        """What is added to the scores, [N, 1, T, P + T]: every token sees the prefix."""
        num_texts, width = mask_NT.shape
        seen = torch.cat([mask_NT.new_ones(num_texts, self.num_virtual_tokens), mask_NT], dim=1)
        dtype = cast(torch.dtype, self.wrapped.get_base_model().dtype)
        added = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        added.masked_fill_(seen == 0, torch.finfo(dtype).min)
        return added[:, None, None].expand(num_texts, 1, width, seen.shape[1])


def put(network: nn.Module, adapter: Adapter) -> nn.Module:
    """The network with the adapter; it may be changed in place, and is the result where it can.

    Raises:
        ValueError: the weights are damaged, or those of another architecture, or a setting is
            used that is not known here.
    """
    try:
        wrapped = cast(PeftModel, get_peft_model(network, _settings(adapter)))
        load(wrapped, load_file(adapter.folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"adapter {adapter.folder}: {WEIGHTS} is damaged ({error}); copy the folder again, or "
            "tune again"
        ) from error
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"adapter {adapter.folder} does not fit {type(network).__name__}: {error}; name the "
            "model it was made for, or tune again"
        ) from error
    if adapter.num_virtual_tokens:
        return Prompted(wrapped).eval()
    for layer in wrapped.modules():
        if isinstance(layer, BaseTunerLayer):
            _merge(layer)
    return cast(nn.Module, wrapped.unload()).eval()


def weights(wrapped: PeftModel) -> dict[str, Tensor]:
    """What an adapter's file holds, by peft's names."""
    found: dict[str, Tensor] = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def load(wrapped: PeftModel, given: dict[str, Tensor]) -> None:
    """Put weights into an adapter of the same make.

    Raises:
        ValueError: weights are missing, there are others, or one is not finite.
        RuntimeError: a weight has another shape.
    """
    own = weights(wrapped)
    if different := sorted(own.keys() ^ given.keys()):
        raise ValueError(
            f"{len(different)} weights are only in the file or only in the network, the first is "
            f"{different[0]!r}"
        )
    for name, value in given.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"{name!r} has the shape {tuple(value.shape)} in the file and "
                f"{tuple(own[name].shape)} in the network"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"{name!r} holds values that are not finite")
    set_peft_model_state_dict(wrapped, given)


def _settings(adapter: Adapter) -> PeftConfig:
    """The adapter's settings, those that are computed with alone."""
    given = adapter.config
    kind = given["peft_type"]
    plain = PeftConfig.from_peft_type(peft_type=kind, task_type="FEATURE_EXTRACTION").to_dict()
    for name, value in given.items():
        if name == "init_lora_weights":
            if value not in PLAIN_STARTS:
                raise ValueError(f"{name} = {value!r} also changes the weights below it")
        elif name not in USED[kind] | HARMLESS and value != plain.get(name) and value:
            raise ValueError(f"its setting {name} = {value!r} is not supported")
    used = {name: given[name] for name in USED[kind] if given.get(name) is not None}
    settings: PeftConfig = PeftConfig.from_peft_type(
        peft_type=kind, task_type="FEATURE_EXTRACTION", **used
    )
    return settings


def _merge(layer: BaseTunerLayer) -> None:
    """Sum in 32 bits and round once: merged in half precision, vectors move."""
    base = layer.get_base_layer()
    dtype = base.get_parameter("weight").dtype
    base.to(torch.float32)
    layer.merge()
    base.to(dtype)
