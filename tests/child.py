"""A command in, its process out, which does not outlive the test, however that ends."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[Any]:
    """The process, as `subprocess.Popen` starts it; killed on leaving if it has not ended."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
