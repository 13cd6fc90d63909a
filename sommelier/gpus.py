"""Wishes for GPUs in, the environment of each worker process out: one GPU each.

A worker sees its GPU alone (CUDA_VISIBLE_DEVICES), so that whatever library it loads finds no
other. The driver is asked in a process of its own; this one stays free of it. No driver, no GPU.
"""

import ctypes
import os
import subprocess  # nosec B404
import sys
from collections.abc import Mapping, Sequence

from ranker.limits import DEVICE

VARIABLE = "CUDA_VISIBLE_DEVICES"
DRIVER = "libcuda.so.1"
ANY = ("auto", "cuda")  # devices that leave open which GPU


def visible(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that a process in this environment sees.

    In CUDA's order: cuda:0 is the first one, whatever its name.
    """
    ran = subprocess.run(  # nosec B603
        [sys.executable, "-m", "sommelier.gpus"],
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return named(int(ran.stdout), environment)


def named(num: int, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the first so many GPUs that the environment allows."""
    allowed = environment.get(VARIABLE)
    names = [str(place) for place in range(num)] if allowed is None else allowed.split(",")
    return tuple(name.strip() for name in names[:num])


def environments(
    wished: Sequence[str], *, device: str, gpus: Sequence[str]
) -> tuple[dict[str, str], ...]:
    """What workers are told, the first one the first, and around again.

    Args:
        wished: `server.devices`, as `cuda:0`; none are all that are there.
        device: `ranker.llm.device` of what is served.
        gpus: As from `visible`.

    Returns:
        Nothing where no GPU is shared out: none was wished for, and there is none, or the LLM has
        a device of its own.

    Raises:
        ValueError: a GPU that is not there, or that the LLM's device leaves no choice of.
    """
    if device not in ANY:
        if wished:
            raise ValueError(
                f"server.devices gives each worker a GPU, but the LLM was trained with "
                f'ranker.llm.device = "{device}", which is where it runs: leave server.devices '
                f'out, or train with ranker.llm.device = "auto"'
            )
        return ()
    places = [_place(one, num=len(gpus)) for one in wished] or range(len(gpus))
    return tuple({VARIABLE: gpus[place]} for place in places)


def _place(device: str, *, num: int) -> int:
    matched = DEVICE.fullmatch(device)
    assert matched is not None, "the settings have been checked"
    if (place := int(matched[1])) < num:
        return place
    seen = ", ".join(f"cuda:{one}" for one in range(num)) or "none"
    raise ValueError(
        f"server.devices names {device}, and the GPUs that this process sees are: {seen}. Name "
        f"those alone or leave it out; the driver and {VARIABLE} say which are seen"
    )


def _count() -> int:
    """How many GPUs the driver shows to this process."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    found = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(found)):
        return 0  # a driver without any GPU fails, too
    return found.value


if __name__ == "__main__":
    print(_count())
