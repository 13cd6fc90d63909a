"""One packed request in a process of its own, its peak of resident memory above the weights out.

Run by `packed_scoring.py`, since a process's peak knows nothing of what came before it. A first
small request stands before the baseline, as in a server: it pages in the libraries' code. Linux
alone tells and resets a process's peak.
"""

from argparse import ArgumentParser
from pathlib import Path

from _packed_sides import SHAPES, draw, head_of, make, packed

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def kib(name: str) -> int:
    """A line of the process's status."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@torch.inference_mode()
def main() -> None:
    """Print MB."""
    options = ArgumentParser(description=__doc__)
    options.add_argument("shape", choices=SHAPES)
    options.add_argument("prefix", type=int)
    options.add_argument("candidates", type=int)
    asked = options.parse_args()
    torch.set_num_threads(1)
    llm = make(asked.shape)
    head = head_of(llm)
    vocab_size = llm.config.vocab_size
    packed(llm, draw(8, 2, vocab_size=vocab_size, seed=1), head)
    prompts = draw(asked.prefix, asked.candidates, vocab_size=vocab_size, seed=0)
    RESET.write_text("5")
    before = kib("VmRSS:")
    packed(llm, prompts, head)
    print((kib("VmHWM:") - before) * 1024 / 1e6)


if __name__ == "__main__":
    main()
