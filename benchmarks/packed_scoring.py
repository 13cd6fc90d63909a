"""One prefix and many candidates in, the cost of scoring them packed against one by one out.

The other side is what one writes with transformers alone, once with a whole prompt for each
candidate and once behind the prefix's cached keys and values: sorted by length, in padded batches
of 8, by the model's own forward, of whose logits only the last position's are computed. All sides
score the same prompts with the same random weights in float32 on one thread, in turns; the scores
are compared as well. Weights are random because neither the time nor the equality of scores
depends on them.

Packing is also timed with items of 4 tokens, as fused soft tokens are, behind the same prefix.
Those scores are others; only the time is compared.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from _figures import cpu_seconds, figure, parser, publish

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import pad  # noqa: E402
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM  # noqa: E402

from ranker.packing import AnswerHead, score_packed  # noqa: E402

BATCH = 8  # with a cached prefix the fastest of 4, 8, 16, 32 and 100
SHORTEST, LONGEST = 16, 32  # tokens of a candidate
SOFT = 4  # tokens of a fused item
YES, NO = 1, 2
PEAK_SIZE = 2048  # of the square matrices whose product measures the machine

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


def draw(num_prefix: int, num_branches: int, *, vocab_size: int, seed: int) -> Prompts:
    """Random tokens; equal seeds draw equal prompts."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> Tensor:
        return torch.randint(0, vocab_size, (count,), generator=generator)

    lengths = torch.randint(SHORTEST, LONGEST + 1, (num_branches,), generator=generator)
    return Prompts(
        prefix_P=tokens(num_prefix), branches=[tokens(int(length)) for length in lengths]
    )


def make(shape: str) -> LlamaForCausalLM:
    """A Llama of that shape with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=4096)
    llm: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    return llm


def packed(llm: LlamaForCausalLM, prompts: Prompts, head: AnswerHead) -> Tensor:
    """Our side, embedding included."""
    embed = llm.get_input_embeddings()
    branches = embed(torch.cat(prompts.branches)).split(prompts.lengths)
    return score_packed(llm, embed(prompts.prefix_P), branches, head)


def one_by_one(llm: LlamaForCausalLM, prompts: Prompts) -> Tensor:
    """The other side as it is written first: a whole prompt for each candidate."""
    llm.set_attn_implementation("sdpa")
    scores_B = torch.zeros(len(prompts.branches))
    for batch in batches(prompts.lengths, BATCH):
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
    for batch in batches(prompts.lengths, BATCH):
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


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places by length, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda n: lengths[n])
    return [order[first : first + size] for first in range(0, len(order), size)]


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens padded on the left, so that every answer stands last, and what is a token, [B, T]."""
    longest = max(map(len, rows))
    starts_B1 = torch.tensor([[longest - len(row)] for row in rows])
    ids_BT = torch.stack([pad(row, (longest - len(row), 0)) for row in rows])
    return ids_BT, (torch.arange(longest) >= starts_B1).long()


def flop(llm: LlamaForCausalLM, num_prefix: int, lengths: Sequence[int]) -> float:
    """Of one pass with the prefix computed once: every weight outside the embeddings twice for each
    token, and attention, where token t sees t tokens: 4 floating point operations for each layer,
    head, head dimension and pair."""
    words = llm.get_input_embeddings().get_parameter("weight").numel()
    num_weights = sum(one.numel() for one in llm.parameters()) - words
    per_pair = 4 * llm.config.num_hidden_layers * llm.config.hidden_size
    pairs = num_prefix**2 / 2 + sum(own * (num_prefix + own / 2) for own in lengths)
    return 2 * num_weights * (num_prefix + sum(lengths)) + per_pair * pairs


def peak() -> float:
    """This machine's float32 operations a second on one thread: the best of three products."""
    left, right = torch.randn(2, PEAK_SIZE, PEAK_SIZE)
    return max(2 * PEAK_SIZE**3 / cpu_seconds(torch.matmul, left, right)[0] for _ in range(3))


@torch.inference_mode()
def measure(
    shape: str, *, num_prefix: int, num_branches: int, rounds: int
) -> dict[str, list[float]]:
    """Each round's value of each figure."""
    llm = make(shape)
    head = AnswerHead(llm, yes=YES, no=NO)
    vocab_size = llm.config.vocab_size
    warm = draw(num_prefix, BATCH, vocab_size=vocab_size, seed=rounds)
    packed(llm, warm, head)
    one_by_one(llm, warm)
    size = f"{num_prefix}x{num_branches}"
    values: dict[str, list[float]] = {}
    for seed in range(rounds):
        prompts = draw(num_prefix, num_branches, vocab_size=vocab_size, seed=seed)
        soft = Prompts(prefix_P=prompts.prefix_P, branches=[one[:SOFT] for one in prompts.branches])
        packed_s, scores_B = cpu_seconds(packed, llm, prompts, head)
        peak_share = flop(llm, num_prefix, prompts.lengths) / packed_s / peak()
        soft_s, _ = cpu_seconds(packed, llm, soft, head)
        cached_s, cached_B = cpu_seconds(cached, llm, prompts)
        naive_s, naive_B = cpu_seconds(one_by_one, llm, prompts)
        whole = sum(flop(llm, num_prefix + own, []) for own in prompts.lengths)
        found = {
            f"speedup_{size}": naive_s / packed_s,
            f"flop_limit_{size}": whole / flop(llm, num_prefix, prompts.lengths),
            f"speedup_over_cached_{size}": cached_s / packed_s,
            f"tokens{SOFT}_{size}": naive_s / soft_s,
            "fp32_peak_share": peak_share,
            "max_abs_dlogit_fp32": float((scores_B - naive_B).abs().max()),
            "max_abs_dlogit_cached": float((cached_B - naive_B).abs().max()),
            "logit_deviation": float(naive_B.std()),
            "packed_ms": 1000 * packed_s,
        }
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    return values


def meanings(size: str) -> dict[str, str]:
    """What each figure is."""
    return {
        f"speedup_{size}": "CPU time one by one / packed",
        f"flop_limit_{size}": "floating point operations one by one / packed",
        f"speedup_over_cached_{size}": "CPU time one by one behind a cached prefix / packed",
        f"tokens{SOFT}_{size}": f"CPU time one by one / packed with {SOFT} tokens an item",
        "fp32_peak_share": "of this machine's matrix product, reached by the packed pass",
        "max_abs_dlogit_fp32": "largest difference of a score, packed and one by one",
        "max_abs_dlogit_cached": "the same, one by one with and without the cached prefix",
        "logit_deviation": "standard deviation of the scores, to compare that with",
        "packed_ms": "CPU milliseconds of one packed request",
    }


def main() -> None:
    """Measure, print, write."""
    options = parser("Packed scoring against one whole prompt for each candidate.")
    options.add_argument("--shape", choices=SHAPES, default="15m")
    options.add_argument("--prefix", type=int, default=512, help="tokens of the prefix")
    options.add_argument("--candidates", type=int, default=100)
    asked = options.parse_args()
    torch.set_num_threads(1)
    values = measure(
        asked.shape,
        num_prefix=asked.prefix,
        num_branches=asked.candidates,
        rounds=asked.rounds,
    )
    publish(
        f"Packed scoring, {asked.shape}, float32, one thread, {asked.rounds} rounds",
        {name: figure(rounds) for name, rounds in values.items()},
        meanings(f"{asked.prefix}x{asked.candidates}"),
        file=asked.json,
        packages=("torch", "transformers"),
    )


if __name__ == "__main__":
    main()
