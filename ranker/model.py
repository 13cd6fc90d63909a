"""Fused items, evidence and a LoRA-tuned LLM in one model: prompts in, scores out.

What is trained: fusion, evidence, behavior tokens and LoRA; the LLM's own weights never are. What
is saved: exactly that, with the spaces whose vectors it was trained on.

Shape legend: N items, K tokens of an item, H the LLM's width, T tokens, E evidence tokens.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from embedders.items import Modality  # noqa: E402
from embedders.texts import TextSource  # noqa: E402
from embedders.vectors import Space  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker import lora as loras  # noqa: E402
from ranker.adapter_facts import AdapterError, AdapterFacts, read_facts  # noqa: E402
from ranker.calibration import CALIBRATOR, Calibrator  # noqa: E402
from ranker.config import PromptConfig, RankerConfig  # noqa: E402
from ranker.evidence import Evidence  # noqa: E402
from ranker.fusion import Fusion  # noqa: E402
from ranker.llm import Llm  # noqa: E402
from ranker.prompts import (  # noqa: E402
    BEHAVIOR,
    EVIDENCE,
    ITEM,
    OTHER,
    STRIDE,
    WORD,
    Codes,
    Prompter,
)
from retrieval.concatenated import ItemVectors, block_name  # noqa: E402

WEIGHTS, LORA = "ranker.safetensors", "lora"
PARTS = ("fusion", "evidence", "behaviors")
"""What is trained beside LoRA; the soft tokens' common scale belongs to fusion."""
BLOCK = 8192  # words looked at in one go


class RankerModel(nn.Module):
    """The trainable ranker around a frozen LLM, on the LLM's device; ours is always in float32."""

    size_of_words: Tensor

    def __init__(
        self,
        llm: Llm,
        *,
        spaces: Sequence[Space],
        behaviors: Sequence[str],
        config: RankerConfig,
    ) -> None:
        """A fresh ranker, on the LLM's device; `adapt` it to train it."""
        super().__init__()
        self.llm = llm
        self.spaces = tuple(spaces)
        self.behaviors = tuple(behaviors)
        self.config = config
        hidden = llm.hidden_size
        self.fusion = Fusion(
            {Modality(space.modality): space.dim for space in self.spaces if space.modality},
            hidden_size=hidden,
            config=config.fusion,
        ).to(self.device)
        self.evidence = Evidence(
            len(self.spaces), hidden_size=hidden, is_read=config.has_evidence
        ).to(self.device)
        self.behavior_tokens = nn.Embedding(len(self.behaviors), hidden).to(self.device)
        # Soft tokens enter at the size of the words, each behavior as the mean of its own words.
        # The size itself is not trained: few steps of the optimizer would take it to zero.
        self.register_buffer("size_of_words", _size_of_words(llm), persistent=False)
        self.scale = nn.Parameter(torch.ones_like(self.size_of_words))
        with torch.no_grad():
            for row, name in enumerate(self.behaviors):
                tokens = llm.tokenize(name) or llm.tokenize(OTHER)
                words_TH = self._words(torch.tensor(list(tokens), device=self.device))
                self.behavior_tokens.weight[row] = words_TH.float().mean(dim=0)
        self.decoder: PreTrainedModel | PeftModel = llm.model
        self.calibrator: Calibrator | None = None
        """How far the LLM's logit is trusted; None where nothing was held out to learn it from."""
        self.asked: tuple[str, ...] = ()
        """The behaviors that training asked about; a query may name one of them."""
        self.texts: tuple[TextSource, ...] = ()
        """Who wrote what prompts hold of items and users; none where they hold nothing of it."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What is fused, by name."""
        return self.fusion.modalities

    @property
    def device(self) -> torch.device:
        """Where the LLM reads its input, and all of ours lies."""
        return self.llm.model.get_input_embeddings().get_parameter("weight").device

    @property
    def size(self) -> Tensor:
        """Of a soft token's numbers: that of the words, times what was learned."""
        return self.size_of_words * self.scale

    def adapt(self) -> None:
        """Wrap every linear layer of the LLM with fresh LoRA modules, to be trained."""
        self.decoder = loras.wrap(self.llm.model, self.config.llm)

    @property
    def lora_names(self) -> tuple[str, ...]:
        """The LoRA modules that are to be told apart; none where they are merged."""
        return loras.names(self.decoder) if isinstance(self.decoder, PeftModel) else ()

    def train_only(self, parts: Collection[str], *, lora: Collection[str]) -> None:
        """Train these parts and these LoRA modules, and nothing else.

        Which modules are active does not change: one that is frozen still counts.

        Args:
            parts: Some of `PARTS`. What the configuration never reads is not trained either.
            lora: Some of `lora_names`.

        Raises:
            ValueError: no such part or module.
            TypeError: the model is not adapted.
        """
        if unknown := sorted(set(parts) - set(PARTS)):
            raise ValueError(f"no part {unknown}; there are {', '.join(PARTS)}")
        loras.train(self._adapted(), lora)
        self.fusion.requires_grad_("fusion" in parts)
        for unused in self.fusion.unused:
            unused.requires_grad_(False)
        self.scale.requires_grad_("fusion" in parts)
        self.evidence.requires_grad_("evidence" in parts and self.config.has_evidence)
        self.behavior_tokens.requires_grad_("behaviors" in parts)

    def activate(self, lora: Collection[str]) -> None:
        """Sum these LoRA modules in every layer, and no others; none is the LLM as it was given.

        Raises:
            ValueError: no such module.
            TypeError: the model is not adapted.
        """
        loras.activate(self._adapted(), lora)

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
        self,
        items: ItemVectors | Mapping[str, int],
        titles: Mapping[str, str],
        *,
        summaries: Mapping[str, str] | None = None,
        prompt: PromptConfig | None = None,
    ) -> Prompter:
        """Whoever writes prompts for this model.

        Args:
            items: Each item's row among the fused tokens.
            titles: Of the items, for prompts that write them.
            summaries: Of the items, likewise.
            prompt: How they are written, where not as this model is served: a level of training
                may see titles alone.
        """
        return Prompter(
            tokenize=self.llm.tokenize,
            quote=self.llm.quote,
            row_of=items.row_of if isinstance(items, ItemVectors) else items,
            titles=titles,
            summaries=summaries or {},
            behaviors=self.behaviors,
            num_tokens=self.config.fusion.num_tokens,
            config=prompt or self.config.prompt,
        )

    def fuse(self, vectors: Sequence[Tensor], is_present_NM: Tensor) -> Tensor:
        """[N, K, H]: items' soft tokens, at the size of the LLM's word embeddings.

        Args:
            vectors: For each modality, by name, [N, D], on any device.
            is_present_NM: Which are there; any of them may be absent, even all.
        """
        vectors = [one.to(self.device) for one in vectors]
        tokens_NKH: Tensor = self.fusion(vectors, is_present_NM.to(self.device)) * self.size
        return tokens_NKH

    def embed(self, codes: Codes, items_RH: Tensor, evidence_EH: Tensor) -> Tensor:
        """Prompt codes of any shape -> their embeddings, one more dimension [..., H].

        Args:
            codes: As `ranker.prompts` writes them.
            items_RH: The fused tokens that item codes count in, on any device: only those that are
                asked for travel to the LLM's.
            evidence_EH: What evidence codes count in.

        Returns:
            On the LLM's device, in the dtype of its word embeddings.

        Raises:
            ValueError: evidence in a prompt of a model that reads none.
        """
        flat_T = codes.reshape(-1)
        kinds_T, places_T = flat_T // STRIDE, flat_T % STRIDE
        embedded_TH = torch.zeros(len(flat_T), self.llm.hidden_size, device=self.device)
        for kind in (WORD, BEHAVIOR, ITEM, EVIDENCE):
            rows = np.flatnonzero(kinds_T == kind)
            if len(rows):
                places = torch.from_numpy(places_T[rows])
                found = self._look_up(kind, places, items_RH, evidence_EH)
                embedded_TH[torch.from_numpy(rows).to(self.device)] = found.float()
        words = self.llm.model.get_input_embeddings().get_parameter("weight")
        return embedded_TH.to(words.dtype).view(*codes.shape, embedded_TH.shape[1])

    def _look_up(self, kind: int, places: Tensor, items_RH: Tensor, evidence_EH: Tensor) -> Tensor:
        # By `embedding`: several threads add up the gradients of `items_RH[places]` in any order.
        if kind == ITEM:
            return nn.functional.embedding(places.to(items_RH.device), items_RH).to(self.device)
        places = places.to(self.device)
        if kind == WORD:
            return self._words(places)
        if kind == BEHAVIOR:
            behaviors: Tensor = self.behavior_tokens(places)
            return behaviors
        if not self.config.has_evidence:
            raise ValueError("has_evidence is off: write branches with slot=None")
        return nn.functional.embedding(places, evidence_EH) * self.size

    def _words(self, tokens: Tensor) -> Tensor:
        """As the LLM embeds them; some scale their table's rows."""
        words: Tensor = self.llm.model.get_input_embeddings()(tokens)
        return words

    def _adapted(self) -> PeftModel:
        if not isinstance(self.decoder, PeftModel):
            raise TypeError("the model has no LoRA of its own: call adapt first")
        return self.decoder

    def save(self, folder: Path, *, training: Mapping[str, Any]) -> None:
        """Write the adapter; `load` reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        loras.save(self._adapted(), folder / LORA)
        save_file(self.own_state(), folder / WEIGHTS)
        facts = AdapterFacts(
            spaces=self.spaces,
            behaviors=self.behaviors,
            llm=self.llm.source,
            llm_revision=self.llm.revision,
            config=self.config,
            training=training,
            asked=self.asked,
            texts=self.texts,
        )
        facts.save(folder)

    def own_state(self) -> dict[str, Tensor]:
        """Every weight of ours outside the LLM."""
        state = {
            f"{name}.{key}": value.contiguous()
            for name in ("fusion", "evidence", "behavior_tokens")
            for key, value in self.get_submodule(name).state_dict().items()
        }
        return {**state, "scale": self.size.detach().clone()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """The reverse of `own_state`.

        Raises:
            AdapterError: weights are missing, or there are others.
        """
        if different := sorted(self.own_state().keys() ^ state.keys()):
            raise AdapterError(f"weights that only the model or only the file has: {different}")
        # What was saved is the unit from now on: a quotient and a product would not give it back.
        self.size_of_words = state["scale"].to(self.device)
        self.load_state_dict({**state, "scale": torch.ones_like(self.scale)}, strict=False)


@torch.no_grad()
def _size_of_words(llm: Llm) -> Tensor:
    """The root mean square of the word embeddings, as the LLM reads them."""
    words = llm.model.get_input_embeddings()
    table_VH = words.get_parameter("weight")
    squares = [
        words(tokens).double().square().mean(dim=1).sum()
        for tokens in torch.arange(len(table_VH), device=table_VH.device).split(BLOCK)
    ]
    return (torch.stack(squares).sum() / len(table_VH)).sqrt().float()


def load(folder: Path, *, llm: str | Path | None = None) -> RankerModel:
    """A saved ranker, ready to score: LoRA is merged into the LLM's weights, or, where those are
    quantized, beside them.

    Args:
        folder: What `save` wrote.
        llm: Where the LLM lies now; None for where it lay when it was trained.

    Raises:
        AdapterError: the folder is damaged, or the LLM is not the one it was trained on.
    """
    facts = read_facts(folder)
    loaded = llms.load(llm or facts.llm, config=facts.config.llm)
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
            adapted = loras.load(loaded.model, folder / LORA, facts.config.llm)
            if (folder / CALIBRATOR).is_file():
                model.calibrator = Calibrator.load(folder / CALIBRATOR)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise AdapterError(f"{folder} is damaged ({error}): run `sommelier train`") from error
    model.asked, model.texts = facts.asked, facts.texts
    is_quantized = facts.config.llm.quantization is not None
    model.decoder = adapted if is_quantized else loras.merge(adapted)
    return model.requires_grad_(False).eval()


def tensors(items: ItemVectors, rows: NDArray[np.int64] | slice) -> tuple[list[Tensor], Tensor]:
    """These rows' vectors by modality, and which are there: what `RankerModel.fuse` takes."""
    vectors = [torch.from_numpy(items.block(modality)[rows]) for modality in items.modalities]
    is_present = [items.is_present(modality)[rows] for modality in items.modalities]
    return vectors, torch.from_numpy(np.stack(is_present, axis=1))
