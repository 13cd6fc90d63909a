"""Prompts of random tokens in, their scores by each of the sides compared out."""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from sentence_transformers import CrossEncoder  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import pad  # noqa: E402
from transformers import (  # noqa: E402
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from embedders.checkpoint import quiet  # noqa: E402
from ranker.packing import AnswerHead, read, score_packed  # noqa: E402
from ranker.prefixes import Prefix  # noqa: E402

BATCH = 8  # with a cached prefix the fastest of 4, 8, 16, 32 and 100
SHORTEST, LONGEST = 16, 32  # tokens of a candidate
YES, NO = 1, 2

SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256},
    "15m": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
            "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 14_500},
    "135m": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152},
}  # fmt: skip
"""`135m` is the shape of SmolLM-135M."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """One user's prefix and candidates, as token ids."""

    prefix_P: Tensor
    branches: list[Tensor]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each branch."""
        return [len(branch) for branch in self.branches]

    def cut(self, num_tokens: int) -> "Prompts":
        """The same with candidates of so many tokens."""
        return Prompts(
            prefix_P=self.prefix_P, branches=[branch[:num_tokens] for branch in self.branches]
        )


def draw(num_prefix: int, num_branches: int, *, vocab_size: int, seed: int) -> Prompts:
    """Random tokens but the last, which pads; equal seeds draw equal prompts."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> Tensor:
        return torch.randint(0, vocab_size - 1, (count,), generator=generator)

    lengths = torch.randint(SHORTEST, LONGEST + 1, (num_branches,), generator=generator)
    return Prompts(
        prefix_P=tokens(num_prefix), branches=[tokens(int(length)) for length in lengths]
    )


def config(shape: str) -> LlamaConfig:
    """Of that shape."""
    return LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=4096)


def make(shape: str) -> LlamaForCausalLM:
    """A Llama of that shape with random weights."""
    torch.manual_seed(0)
    llm: LlamaForCausalLM = LlamaForCausalLM(config(shape)).eval()
    return llm


def head_of(llm: LlamaForCausalLM) -> AnswerHead:
    """What reads the answer."""
    return AnswerHead(llm, yes=YES, no=NO)


def packed(
    llm: LlamaForCausalLM, prompts: Prompts, head: AnswerHead, prefix: Prefix | None = None
) -> Tensor:
    """Our side, embedding included; behind a kept prefix where one is given."""
    embed = llm.get_input_embeddings()
    branches = embed(torch.cat(prompts.branches)).split(prompts.lengths)
    return score_packed(llm, prefix or embed(prompts.prefix_P), branches, head)


def kept(llm: LlamaForCausalLM, prompts: Prompts) -> Prefix:
    """What an earlier request of the user left."""
    return read(llm, llm.get_input_embeddings()(prompts.prefix_P))


def one_by_one(llm: LlamaForCausalLM, prompts: Prompts, batches: Sequence[list[int]]) -> Tensor:
    """The other side as it is written first: a whole prompt for each candidate of the batches;
    other candidates' scores are left NaN."""
    llm.set_attn_implementation("sdpa")
    scores_B = torch.full((len(prompts.branches),), torch.nan)
    for batch in batches:
        ids_BT, mask_BT = padded(
            [torch.cat([prompts.prefix_P, prompts.branches[n]]) for n in batch]
        )
        logits_B1V = llm(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=1,
            use_cache=False,
        ).logits
        scores_B[batch] = logits_B1V[:, -1, YES] - logits_B1V[:, -1, NO]
    return scores_B


def cached(llm: LlamaForCausalLM, prompts: Prompts) -> Tensor:
    """The other side at its best: the prefix's keys and values once, copied for every candidate."""
    llm.set_attn_implementation("sdpa")
    num_prefix = len(prompts.prefix_P)
    prefix = DynamicCache(config=llm.config)
    llm.get_decoder()(input_ids=prompts.prefix_P[None], past_key_values=prefix, use_cache=True)
    scores_B = torch.zeros(len(prompts.branches))
    for batch in batched(prompts.lengths):
        ids_BT, mask_BT = padded([prompts.branches[n] for n in batch])
        copies = copy.deepcopy(prefix)  # a cache is changed by every pass
        copies.batch_repeat_interleave(len(batch))
        seen_BP = torch.ones(len(batch), num_prefix, dtype=torch.long)
        logits_B1V = llm(
            input_ids=ids_BT,
            attention_mask=torch.cat([seen_BP, mask_BT], dim=1),
            position_ids=num_prefix + (mask_BT.cumsum(1) - 1).clamp(min=0),
            past_key_values=copies,
            logits_to_keep=1,
        ).logits
        scores_B[batch] = logits_B1V[:, -1, YES] - logits_B1V[:, -1, NO]
    return scores_B


def cross_encoder(shape: str) -> CrossEncoder:
    """sentence-transformers' reranker on the same backbone, its head a single logit; its tokenizer
    reads the very tokens from words that are their numbers."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        save_cross_encoder(shape, Path(folder))
        return CrossEncoder(folder, device="cpu", local_files_only=True)


def save_cross_encoder(shape: str, folder: Path) -> None:
    """Its weights and tokenizer, as a hub's model would lie there."""
    whole = config(shape)
    whole.num_labels, whole.pad_token_id = 1, whole.vocab_size - 1
    words = Tokenizer(WordLevel({str(n): n for n in range(whole.vocab_size)}, unk_token="0"))
    words.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(0)
    with quiet():
        LlamaForSequenceClassification(whole).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token=str(whole.pad_token_id), model_max_length=4096
        ).save_pretrained(folder)
    # transformers before 5 knows the class by this name alone.
    facts = folder / "tokenizer_config.json"
    told = {**json.loads(facts.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    facts.write_text(json.dumps(told))


def crossed(encoder: CrossEncoder, prompts: Prompts, batches: Sequence[list[int]]) -> Tensor:
    """A score for each candidate of the batches, as `CrossEncoder.predict` gives it."""
    prefix = " ".join(map(str, prompts.prefix_P.tolist()))
    pairs = [
        (prefix, " ".join(map(str, prompts.branches[n].tolist()))) for one in batches for n in one
    ]
    scores: Tensor = encoder.predict(
        pairs, batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True
    )
    return scores


def batched(lengths: Sequence[int]) -> list[list[int]]:
    """Places by length, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda n: lengths[n])
    return [order[first : first + BATCH] for first in range(0, len(order), BATCH)]


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens padded on the left, so that every answer stands last, and what is a token, [B, T]."""
    longest = max(map(len, rows))
    starts_B1 = torch.tensor([[longest - len(row)] for row in rows])
    ids_BT = torch.stack([pad(row, (longest - len(row), 0)) for row in rows])
    return ids_BT, (torch.arange(longest) >= starts_B1).long()
