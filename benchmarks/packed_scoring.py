"""One prefix and many candidates in, the cost of scoring them packed against one by one out.

The other sides are what one writes with transformers alone, once with a whole prompt for each
candidate and once behind the prefix's cached keys and values: sorted by length, in padded batches
of 8, by the model's own forward, of whose logits only the last position's are computed; and
sentence-transformers' CrossEncoder on the same backbone. All sides read the same tokens in float32
on one thread, in turns; scores are compared as well. Weights are random because neither the time
nor the equality of scores depends on them.

A prompt for each candidate takes minutes, so only some of its batches are run, evenly drawn by
length, and the time of all is taken to be as many times longer as they hold more operations.

Packing is also timed with items of 4 tokens, as fused soft tokens are, behind the same prefix, and
behind one that an earlier request left. Those scores are others; only the time is compared.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _figures import cpu_seconds, figure, parser, publish
from _packed_sides import (
    SHAPES,
    Prompts,
    batched,
    cached,
    cross_encoder,
    crossed,
    draw,
    head_of,
    kept,
    make,
    one_by_one,
    packed,
)

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

SOFT = 4  # tokens of a fused item
PEAK_SIZE = 2048  # of the square matrices whose product measures the machine
MEMORY = Path(__file__).with_name("_packed_memory.py")

Values = dict[str, list[float]]


def flop(llm: LlamaForCausalLM, num_prefix: int, lengths: Sequence[int]) -> float:
    """Of one pass with the prefix computed once: every weight outside the embeddings twice for each
    token, and attention, where token t sees t tokens: 4 floating point operations for each layer,
    head, head dimension and pair."""
    words = llm.get_input_embeddings().get_parameter("weight").numel()
    num_weights = sum(one.numel() for one in llm.parameters()) - words
    per_pair = 4 * llm.config.num_hidden_layers * llm.config.hidden_size
    pairs = num_prefix**2 / 2 + sum(own * (num_prefix + own / 2) for own in lengths)
    return 2 * num_weights * (num_prefix + sum(lengths)) + per_pair * pairs


def packed_flop(llm: LlamaForCausalLM, num_prefix: int, lengths: Sequence[int]) -> float:
    """What a packed pass computes of that: of the last layer, all queries, keys and values, and all
    else for the last tokens alone."""
    shape = llm.config
    layer = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim
    projected = 2 * layer * shape.hidden_size * (num_prefix + sum(lengths))
    rest = shape.num_hidden_layers - 1
    words = llm.get_input_embeddings().get_parameter("weight").numel()
    layer_weights = (sum(one.numel() for one in llm.parameters()) - words) / (rest + 1)
    answers = 2 * layer_weights * len(lengths)
    return flop(llm, num_prefix, lengths) * rest / (rest + 1) + projected + answers


def whole_flop(llm: LlamaForCausalLM, prompts: Prompts, batches: Sequence[list[int]]) -> float:
    """Of a whole prompt for each candidate of the batches."""
    num_prefix = len(prompts.prefix_P)
    return sum(flop(llm, num_prefix + prompts.lengths[n], []) for one in batches for n in one)


def drawn(batches: Sequence[list[int]], share: float) -> list[list[int]]:
    """So large a share of the batches, evenly; at least two."""
    count = min(len(batches), max(2, round(share * len(batches))))
    return [batches[(2 * n + 1) * len(batches) // (2 * count)] for n in range(count)]


def scaled(
    llm: LlamaForCausalLM, prompts: Prompts, share: float, side: Callable[..., Tensor]
) -> tuple[float, Tensor]:
    """The CPU seconds that a side needs for all candidates, by some of them; their scores."""
    batches = batched(prompts.lengths)
    some = drawn(batches, share)
    seconds, scores = cpu_seconds(side, prompts, some)
    return seconds * whole_flop(llm, prompts, batches) / whole_flop(llm, prompts, some), scores


def peak() -> float:
    """This machine's float32 operations a second on one thread: the best of three products."""
    left, right = torch.randn(2, PEAK_SIZE, PEAK_SIZE)
    return max(2 * PEAK_SIZE**3 / cpu_seconds(torch.matmul, left, right)[0] for _ in range(3))


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Among those that both scored."""
    differences = (one - other).abs()
    return float(differences[differences.isfinite()].max())


class Bench:
    """The sides, ready to run."""

    def __init__(self, shape: str, *, share: float) -> None:
        """Make the models, and run each once, small."""
        self.share = share
        self.llm = make(shape)
        self.head = head_of(self.llm)
        self.encoder = cross_encoder(shape)
        self.packed: Callable[..., Tensor] = partial(packed, self.llm, head=self.head)
        small = self.draw(16, 8, seed=99)
        self.packed(small)
        cached(self.llm, small)
        self.whole(small, batched(small.lengths))
        crossed(self.encoder, small, batched(small.lengths))

    def draw(self, num_prefix: int, num_branches: int, *, seed: int) -> Prompts:
        """Of the model's vocabulary."""
        vocab_size = self.llm.config.vocab_size
        return draw(num_prefix, num_branches, vocab_size=vocab_size, seed=seed)

    def whole(self, prompts: Prompts, batches: Sequence[list[int]]) -> Tensor:
        """One by one."""
        return one_by_one(self.llm, prompts, batches)

    def limit(self, prompts: Prompts) -> float:
        """Operations one by one / packed."""
        once = flop(self.llm, len(prompts.prefix_P), prompts.lengths)
        return whole_flop(self.llm, prompts, batched(prompts.lengths)) / once

    def round(self, prompts: Prompts, size: str) -> dict[str, float]:
        """Every figure of the first size."""
        llm = self.llm
        prefix, soft = kept(llm, prompts), prompts.cut(SOFT)
        packed_s, scores_B = cpu_seconds(self.packed, prompts)
        share = packed_flop(llm, len(prompts.prefix_P), prompts.lengths) / packed_s / peak()
        warm_s, warm_B = cpu_seconds(partial(self.packed, prefix=prefix), prompts)
        soft_s, _ = cpu_seconds(self.packed, soft)
        soft_warm_s, _ = cpu_seconds(partial(self.packed, prefix=prefix), soft)
        cached_s, cached_B = cpu_seconds(cached, llm, prompts)
        naive_s, naive_B = scaled(llm, prompts, self.share, self.whole)
        crossed_s, _ = scaled(llm, prompts, self.share, partial(crossed, self.encoder))
        return {
            f"speedup_{size}": naive_s / packed_s,
            f"flop_limit_{size}": self.limit(prompts),
            f"speedup_warm_{size}": naive_s / warm_s,
            f"speedup_over_cached_{size}": cached_s / packed_s,
            f"speedup_over_cross_encoder_{size}": crossed_s / packed_s,
            f"tokens{SOFT}_cold": naive_s / soft_s,
            f"tokens{SOFT}_warm": naive_s / soft_warm_s,
            "fp32_peak_share": share,
            "max_abs_dlogit_fp32": largest_difference(scores_B, naive_B),
            "max_abs_dlogit_cached": largest_difference(cached_B, naive_B),
            "max_abs_dlogit_warm": largest_difference(scores_B, warm_B),
            "logit_deviation": float(scores_B.std()),
            "packed_ms": 1000 * packed_s,
        }

    def long_round(self, prompts: Prompts, size: str) -> dict[str, float]:
        """What the second size is measured for."""
        packed_s, scores_B = cpu_seconds(self.packed, prompts)
        naive_s, naive_B = scaled(self.llm, prompts, self.share / 2, self.whole)
        return {
            f"speedup_{size}": naive_s / packed_s,
            f"flop_limit_{size}": self.limit(prompts),
            f"max_abs_dlogit_{size}": largest_difference(scores_B, naive_B),
        }


def extra_memory(shape: str, num_prefix: int, num_branches: int) -> float:
    """MB of one packed request above the weights, in a process of its own."""
    command = [sys.executable, str(MEMORY), shape, str(num_prefix), str(num_branches)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the memory of a request was not measured: {run.stderr[-500:]}")
    return float(run.stdout.split()[-1])


@torch.inference_mode()
def measure(
    shape: str, sizes: Sequence[tuple[int, int]], *, rounds: int, share: float
) -> tuple[Values, dict[str, str]]:
    """Each round's value of each figure, and what the figures are."""
    bench = Bench(shape, share=share)
    values: Values = {}

    def add(found: dict[str, Any]) -> None:
        for name, value in found.items():
            values.setdefault(name, []).append(value)

    (first, second) = (f"{num_prefix}x{count}" for num_prefix, count in sizes)
    for seed in range(rounds):
        add(bench.round(bench.draw(*sizes[0], seed=seed), first))
        add(bench.long_round(bench.draw(*sizes[1], seed=seed), second))
        add({"extra_memory_mb": extra_memory(shape, *sizes[0])})
    return values, meanings(first, second)


def meanings(first: str, second: str) -> dict[str, str]:
    """What each figure is."""
    return {
        f"speedup_{first}": "CPU time one by one / packed",
        f"flop_limit_{first}": "floating point operations one by one / packed",
        f"speedup_warm_{first}": "CPU time one by one / packed behind a kept prefix",
        f"speedup_over_cached_{first}": "CPU time one by one behind a cached prefix / packed",
        f"speedup_over_cross_encoder_{first}": "CPU time of sentence-transformers / packed",
        f"tokens{SOFT}_cold": f"CPU time one by one / packed with {SOFT} tokens an item",
        f"tokens{SOFT}_warm": "the same, packed behind a kept prefix",
        "fp32_peak_share": "of this machine's matrix product, reached by the packed pass",
        "max_abs_dlogit_fp32": "largest difference of a score, packed and one by one",
        "max_abs_dlogit_cached": "the same, one by one with and without the cached prefix",
        "max_abs_dlogit_warm": "the same, packed behind a kept prefix and a fresh one",
        "logit_deviation": "standard deviation of the scores, to compare that with",
        "packed_ms": "CPU milliseconds of one packed request",
        f"speedup_{second}": "CPU time one by one / packed",
        f"flop_limit_{second}": "floating point operations one by one / packed",
        f"max_abs_dlogit_{second}": "largest difference of a score, packed and one by one",
        "extra_memory_mb": "MB at the peak of one packed request, above the weights",
    }


def main() -> None:
    """Measure, print, write."""
    options = parser("Packed scoring against one whole prompt for each candidate.")
    options.add_argument("--shape", choices=SHAPES, default="135m")
    options.add_argument(
        "--prefix", type=int, default=512, help="tokens; the second size has twice"
    )
    options.add_argument("--candidates", type=int, default=100, help="the second size has twice")
    options.add_argument(
        "--share", type=float, default=0.25, help="of the batches that run one by one; 1 runs all"
    )
    options.set_defaults(rounds=3)
    asked = options.parse_args()
    torch.set_num_threads(1)
    size = (asked.prefix, asked.candidates)
    values, what = measure(
        asked.shape,
        [size, (2 * size[0], 2 * size[1])],
        rounds=asked.rounds,
        share=asked.share,
    )
    publish(
        f"Packed scoring, {asked.shape}, float32, one thread, {asked.rounds} rounds",
        {name: figure(rounds) for name, rounds in values.items()},
        what,
        file=asked.json,
        packages=("sentence-transformers", "torch", "transformers"),
    )


if __name__ == "__main__":
    main()
