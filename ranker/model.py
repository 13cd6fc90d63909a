"""Fused items, evidence and a LoRA-tuned LLM in one model: prompts in, scores out.

What is trained: fusion, evidence, behavior tokens and LoRA; the LLM's own weights never are. What
is saved: exactly that, with the spaces whose vectors it was trained on.

Shape legend: N items, K tokens of an item, H the LLM's width, T tokens, E evidence tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from peft import (  # noqa: E402
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from pydantic import TypeAdapter  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from embedders.checkpoint import quiet  # noqa: E402
from embedders.items import Modality  # noqa: E402
from embedders.vectors import Space  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker.config import RankerConfig  # noqa: E402
from ranker.evidence import Evidence  # noqa: E402
from ranker.fusion import Fusion  # noqa: E402
from ranker.llm import Llm  # noqa: E402
from ranker.prompts import BEHAVIOR, EVIDENCE, ITEM, STRIDE, WORD, Codes, Prompter  # noqa: E402
from retrieval.concatenated import ItemVectors, block_name  # noqa: E402

WEIGHTS, FACTS, LORA = "ranker.safetensors", "adapter.json", "lora"


class AdapterError(ValueError):
    """An adapter folder that cannot be used; the message says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """What an adapter was trained on and with: the part of it that is not weights."""

    spaces: tuple[Space, ...]
    """Of the blocks that retrieval searches, by name; those of modalities are fused."""
    behaviors: tuple[str, ...]
    llm: str
    llm_revision: str
    config: RankerConfig
    training: Mapping[str, Any]
    """Steps, losses, numbers of examples, versions: for people."""


class RankerModel(nn.Module):
    """The trainable ranker around a frozen LLM."""

    def __init__(
        self,
        llm: Llm,
        *,
        spaces: Sequence[Space],
        behaviors: Sequence[str],
        config: RankerConfig,
    ) -> None:
        """A fresh ranker; wrap the LLM with `adapt` or `merge` before scoring."""
        super().__init__()
        self.llm = llm
        self.spaces = tuple(spaces)
        self.behaviors = tuple(behaviors)
        self.config = config
        hidden = llm.hidden_size
        words_VH = llm.model.get_input_embeddings().get_parameter("weight").detach().float()
        self.fusion = Fusion(
            {Modality(space.modality): space.dim for space in self.spaces if space.modality},
            hidden_size=hidden,
            config=config.fusion,
        )
        self.evidence = Evidence(len(self.spaces), hidden_size=hidden)
        self.behavior_tokens = nn.Embedding(len(self.behaviors), hidden)
        # Soft tokens enter at the size of the words, each behavior as the mean of its own words.
        self.scale = nn.Parameter(torch.sqrt(words_VH.square().mean()))
        with torch.no_grad():
            for row, name in enumerate(self.behaviors):
                self.behavior_tokens.weight[row] = words_VH[list(llm.tokenize(name))].mean(dim=0)
        self.decoder: PreTrainedModel | PeftModel = llm.model

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What is fused, by name."""
        return self.fusion.modalities

    def adapt(self) -> None:
        """Wrap every linear layer of the LLM with a fresh LoRA, to be trained."""
        lora = self.config.llm
        self.decoder = get_peft_model(
            self.llm.model,
            LoraConfig(
                r=lora.lora_rank,
                lora_alpha=lora.lora_alpha,
                lora_dropout=lora.lora_dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The LLM as Hugging Face knows it, with LoRA inside its layers where adapted."""
        if isinstance(self.decoder, PeftModel):
            return cast(PreTrainedModel, self.decoder.get_base_model())
        return self.decoder

    @property
    def blocks(self) -> tuple[str, ...]:
        """What the retriever's evidence tells of, by name."""
        return tuple(block_name(space) for space in self.spaces)

    def prompter(
        self, items: ItemVectors | Mapping[str, int], titles: Mapping[str, str]
    ) -> Prompter:
        """Whoever writes prompts for this model."""
        return Prompter(
            tokenize=self.llm.tokenize,
            row_of=items.row_of if isinstance(items, ItemVectors) else items,
            titles=titles,
            behaviors=self.behaviors,
            num_tokens=self.config.fusion.num_tokens,
            config=self.config.prompt,
        )

    def fuse(self, vectors: Sequence[Tensor], is_present_NM: Tensor) -> Tensor:
        """[N, K, H]: items' soft tokens, at the size of the LLM's word embeddings."""
        tokens: Tensor = self.fusion(vectors, is_present_NM) * self.scale
        return tokens

    def embed(self, codes: Codes, items_RH: Tensor, evidence_EH: Tensor) -> Tensor:
        """Prompt codes of any shape -> their embeddings, one more dimension [..., H].

        Args:
            codes: As `ranker.prompts` writes them.
            items_RH: The fused tokens that item codes count in.
            evidence_EH: What evidence codes count in.
        """
        kinds, places = torch.from_numpy(codes // STRIDE), torch.from_numpy(codes % STRIDE)
        embedded = torch.zeros(*codes.shape, self.llm.hidden_size)
        words = self.llm.model.get_input_embeddings()
        for kind, rows in (
            (WORD, lambda index: words(index).float()),
            (BEHAVIOR, self.behavior_tokens),
            (ITEM, lambda index: items_RH[index]),
            (EVIDENCE, lambda index: evidence_EH[index] * self.scale),
        ):
            is_kind = kinds == kind
            if is_kind.any():
                embedded[is_kind] = rows(places[is_kind])
        return embedded.to(words.get_parameter("weight").dtype)

    def save(self, folder: Path, *, training: Mapping[str, Any]) -> None:
        """Write the adapter; `load` reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        if not isinstance(self.decoder, PeftModel):
            raise TypeError("only an adapted model can be saved: call adapt first")
        with quiet():
            self.decoder.save_pretrained(str(folder / LORA), safe_serialization=True)
        _sort_targets(folder / LORA / "adapter_config.json")
        save_file(self.own_state(), folder / WEIGHTS)
        facts = AdapterFacts(
            spaces=self.spaces,
            behaviors=self.behaviors,
            llm=self.llm.source,
            llm_revision=self.llm.revision,
            config=self.config,
            training=training,
        )
        (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1, sort_keys=True))

    def own_state(self) -> dict[str, Tensor]:
        """Every weight of ours outside the LLM."""
        own = (self.fusion, self.evidence, self.behavior_tokens)
        names = ("fusion", "evidence", "behavior_tokens")
        state = {
            f"{name}.{key}": value.contiguous()
            for name, module in zip(names, own, strict=True)
            for key, value in module.state_dict().items()
        }
        return {**state, "scale": self.scale.detach().clone()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """The reverse of `own_state`.

        Raises:
            AdapterError: weights are missing, or there are others.
        """
        if different := sorted(self.own_state().keys() ^ state.keys()):
            raise AdapterError(f"weights that only the model or only the file has: {different}")
        self.load_state_dict(dict(state), strict=False)


def _sort_targets(path: Path) -> None:
    """peft writes sets in an order that changes from process to process."""
    facts = json.loads(path.read_text())
    facts["target_modules"] = sorted(facts["target_modules"])
    path.write_text(json.dumps(facts, indent=2, sort_keys=True))


def read_facts(folder: Path) -> AdapterFacts:
    """An adapter's facts, without its weights.

    Raises:
        AdapterError: no adapter is there, or its facts are damaged.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        return TypeAdapter(AdapterFacts).validate_python(facts)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise AdapterError(
            f"{folder} holds no adapter ({reason}): run `sommelier train`"
        ) from error


def load(folder: Path, *, llm: str | Path | None = None) -> RankerModel:
    """A saved ranker, LoRA merged into the LLM's weights, ready to score.

    Args:
        folder: What `save` wrote.
        llm: Where the LLM lies now; None for where it lay when it was trained.

    Raises:
        AdapterError: the folder is damaged, or the LLM is not the one it was trained on.
    """
    facts = read_facts(folder)
    # LoRA is merged in float32: merging in bfloat16 moves the scores.
    loaded = llms.load(llm or facts.llm, config=replace(facts.config.llm, dtype="float32"))
    if loaded.revision != facts.llm_revision:
        raise AdapterError(
            f"{folder} was trained on {facts.llm} at {facts.llm_revision}, but {llm or facts.llm} "
            f"is at {loaded.revision}: train again, or bring the former model back"
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RankerModel(
            loaded, spaces=facts.spaces, behaviors=facts.behaviors, config=facts.config
        )
        try:
            model.load_own_state(load_file(folder / WEIGHTS))
            adapted = PeftModel.from_pretrained(loaded.model, folder / LORA)
            _check_lora(adapted, folder / LORA / "adapter_model.safetensors")
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise AdapterError(f"{folder} is damaged ({error}): run `sommelier train`") from error
    model.decoder = adapted.merge_and_unload().to(getattr(torch, facts.config.llm.dtype))
    return model.requires_grad_(False).eval()


def _check_lora(adapted: PeftModel, path: Path) -> None:
    """peft leaves weights that the file lacks as they started, and merely warns."""
    held, needed = load_file(path).keys(), get_peft_model_state_dict(adapted).keys()
    if different := sorted(held ^ needed):
        raise AdapterError(f"weights that only the model or only {path.name} has: {different}")


def tensors(items: ItemVectors, rows: NDArray[np.int64] | slice) -> tuple[list[Tensor], Tensor]:
    """These rows' vectors by modality, and which are there: what `RankerModel.fuse` takes."""
    vectors = [torch.from_numpy(items.block(modality)[rows]) for modality in items.modalities]
    is_present = [items.is_present(modality)[rows] for modality in items.modalities]
    return vectors, torch.from_numpy(np.stack(is_present, axis=1))
