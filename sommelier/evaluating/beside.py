"""An evaluation that begins in, a second process that measures its last ablations out.

The two meet in the journal: the first comes from the front, the second from the back, and a batch
that either has finished is measured by nobody again. Each computes on one thread, as whoever
measures alone does, so that the report is the same.
"""

import subprocess  # nosec B404
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sommelier.commented import commented
from sommelier.workspace import Workspace

PROGRAM = "sommelier.evaluating.ahead"


@contextmanager
def helped(workspace: Workspace, generation_id: str, key: str) -> Iterator[subprocess.Popen[bytes]]:
    """Within it the second process works; afterwards it has ended.

    One that fails is not missed: what it leaves out is measured by the first.

    Args:
        workspace: Whose evaluation it is.
        generation_id: What is measured.
        key: Of the journal.
    """
    child = subprocess.Popen(  # nosec B603
        [sys.executable, "-m", PROGRAM, generation_id, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin as settings:
            settings.write(commented(workspace.settings).encode())
        yield child
    finally:
        child.kill()
        child.wait()
