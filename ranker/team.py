"""Several processes in, one training out: each takes its rows of the same drawn batch.

Accelerate finds out who else is there, so that `accelerate launch` and `torchrun` start a team,
and a process that nobody launched is a team of one. Every process holds the whole model and draws
the same batches; what they exchange are sums: gradients, and what was measured. Nothing that was
pickled is ever received.
"""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import cast

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from accelerate import PartialState  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.checkpoint import device_of  # noqa: E402

LONGEST = timedelta(days=2)  # that a process waits: the first may embed and search meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes that train together, seen from one of them."""

    index: int = 0
    count: int = 1

    @classmethod
    def found(cls, device: str) -> "Team":
        """Whoever was launched together with this process; alone otherwise.

        Args:
            device: As `LlmConfig` names it: on the CPU processes speak through gloo, else through
                the accelerator's own library.
        """
        state = PartialState(cpu=device_of(device) == "cpu", timeout=LONGEST)
        if state.num_processes > 1:
            _leave_at_exit()
        return cls(index=state.process_index, count=state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes and reports."""
        return self.index == 0

    def rows(self, count: int) -> slice:
        """This process's rows among so many, as even as can be.

        Raises:
            ValueError: there are fewer rows than processes.
        """
        if count < self.count:
            raise ValueError(
                f"batch_size {count} is less than the {self.count} processes that are to share a "
                f"batch: launch fewer, or raise ranker.training.batch_size"
            )
        return slice(self.index * count // self.count, (self.index + 1) * count // self.count)

    def added(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; they must all call it."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def filled(self, values: NDArray[np.float64], *, device: torch.device) -> NDArray[np.float64]:
        """Joined arrays of which each process filled some places and left the others 0.

        Args:
            values: In float64, so that a float32 comes through as it was.
            device: Where the processes exchange tensors.
        """
        joined = self.added(torch.from_numpy(values.copy()).to(device))
        return cast(NDArray[np.float64], joined.cpu().numpy())

    def add_gradients(self, weights: Sequence[Tensor], loss: float) -> float:
        """Give every process the sum of all gradients and losses.

        A weight that no process has a gradient for keeps none: an optimizer passes it over, as it
        does with one process.
        """
        if self.count == 1:
            return loss
        reached = torch.tensor([float(one.grad is not None) for one in weights])
        parts = [one.grad if one.grad is not None else torch.zeros_like(one) for one in weights]
        device = weights[0].device
        flat = torch.cat([one.reshape(-1).float() for one in parts])
        flat = torch.cat([flat, reached.to(device), torch.tensor([loss], device=device)])
        self.added(flat)
        sizes = [one.numel() for one in weights]
        *sums, reached, total = flat.split([*sizes, len(sizes), 1])
        for weight, summed, times in zip(weights, sums, reached.tolist(), strict=True):
            weight.grad = summed.view_as(weight).to(weight.dtype) if times else None
        return float(total)

    def align(self, weights: Sequence[Tensor]) -> None:
        """Give every process the first one's numbers."""
        if self.count > 1:
            for weight in weights:
                torch.distributed.broadcast(weight.data, src=0)

    def wait(self) -> None:
        """Until all are here."""
        PartialState().wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The others come in when the first process is done, and find what it made."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


@cache
def _leave_at_exit() -> None:
    """Say good-bye to the others when this process ends: some libraries complain otherwise."""
    atexit.register(PartialState().destroy_process_group)
