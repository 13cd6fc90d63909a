"""Wishes for GPUs become what each worker process sees, or a refusal that says what to mend."""

import os
import subprocess
import sys

import pytest

from sommelier import gpus


def told(*names: str) -> tuple[dict[str, str], ...]:
    return tuple({"CUDA_VISIBLE_DEVICES": name} for name in names)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_worker_gets_one_of_all_the_gpus_unless_some_are_named(device: str) -> None:
    assert gpus.environments((), device=device, gpus="012") == told("0", "1", "2")
    wished = ("cuda:2", "cuda:0", "cuda:2")
    assert gpus.environments(wished, device=device, gpus="012") == told("2", "0", "2")


def test_gpus_are_counted_among_those_that_this_process_may_see() -> None:
    allowed = {"CUDA_VISIBLE_DEVICES": "3, GPU-5e1d,1"}
    seen = gpus.named(3, allowed)
    assert gpus.environments(("cuda:1", "cuda:0"), device="auto", gpus=seen) == told(
        "GPU-5e1d", "3"
    )
    assert gpus.named(1, allowed) == ("3",)  # the driver stops at a name that it does not know
    assert gpus.named(2, {}) == ("0", "1")


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_an_llm_with_a_device_of_its_own_keeps_it(device: str) -> None:
    assert gpus.environments((), device=device, gpus="012") == ()
    with pytest.raises(ValueError, match=rf'ranker.llm.device = "{device}".*leave server.devices'):
        gpus.environments(("cuda:0",), device=device, gpus="012")


def test_without_a_gpu_workers_stay_as_they_are() -> None:
    assert gpus.environments((), device="auto", gpus=()) == ()


@pytest.mark.parametrize(("seen", "listed"), [("", "none"), ("01", "cuda:0, cuda:1")])
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(seen: str, listed: str) -> None:
    with pytest.raises(ValueError, match=rf"names cuda:2, and the GPUs .* are: {listed}\. Name"):
        gpus.environments(("cuda:2",), device="auto", gpus=seen)


def test_a_process_that_may_see_no_gpu_sees_none() -> None:
    assert gpus.visible({**os.environ, "CUDA_VISIBLE_DEVICES": ""}) == ()


@pytest.mark.gpu
def test_a_worker_sees_its_gpu_alone() -> None:
    import torch

    program = (
        "import torch\nprint(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)"
    )
    every = gpus.visible()
    assert len(every) == torch.cuda.device_count()
    for place, one in enumerate(gpus.environments((), device="auto", gpus=every)):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **one},
            capture_output=True,
            text=True,
            check=True,
        )
        uuid = torch.cuda.get_device_properties(place).uuid
        assert ran.stdout.split() == ["1", str(uuid)]
