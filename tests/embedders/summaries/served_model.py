"""A server of the tests' own that is real: `transformers serve` with a tiny checkpoint."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[3]
START_WITHIN_S = 240
# As `transformers serve`, in a process where torchaudio loads without CUDA.
SERVE = (
    "from embedders import torchaudio_cpu\n"
    "torchaudio_cpu.load()\n"
    "from transformers.cli.transformers import main\n"
    "main()\n"
)


@contextmanager
def served(checkpoint: Path, folder: Path) -> Iterator[str]:
    """Serve a checkpoint under its path as the model's name -> the address.

    Args:
        checkpoint: As `save_pretrained` wrote it.
        folder: For the log and an empty cache of the hub's models, which the server lists.
    """
    port = free_port()
    (folder / "home" / "hub").mkdir(parents=True)
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SERVE, "serve", str(checkpoint), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", folder / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(url).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"no server: {log.read_text(errors='replace')[-3000:]}")
