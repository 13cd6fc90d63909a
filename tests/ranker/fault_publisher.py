"""A folder and moments in, publishers whose disk is full from then on out.

    python -m tests.ranker.fault_publisher ROOT full|killed

publishes ROOT/index and ROOT/adapter as the next generation of ROOT/generations, once for every
number that it reads, in a process of its own. From the file of this number on that the publisher
writes, the kernel takes no byte any more: of `full`, writing fails, and of `killed`, the process
dies in the midst of it. What is printed is its exit code: 0 where it came to its end, 28 (ENOSPC)
where it could not write, and a signal's as a negative number.
"""

import errno
import os
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from ranker.generation import Generations
from tests.ranker.serving_world import FUSED_SPACE, TEXT_SPACE

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def publish(root: Path) -> None:
    """What is published tells itself apart by what lies in the index's folder."""
    Generations(root / "generations").publish(
        index=root / "index",
        adapter=root / "adapter",
        llm="models/llm",
        spaces=(TEXT_SPACE,),
        fused_space=FUSED_SPACE,
        as_of=DAY,
    )


def fill_the_disk(nth: int) -> None:
    """No file may grow from the nth on that is opened to be written."""
    num_left = nth

    def hear(event: str, given: tuple[object, ...]) -> None:
        nonlocal num_left
        if event == "open" and isinstance(given[2], int) and given[2] & os.O_ACCMODE:
            num_left -= 1
            if num_left == 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    sys.addaudithook(hear)


def attempt(root: Path, nth: int, how: str) -> int:
    """One publisher's life."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if how == "killed" else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fill_the_disk(nth)
    try:
        publish(root)
    except OSError as error:
        if os.strerror(errno.EFBIG) not in str(error):  # of several files, shutil tells in words
            raise
        return errno.ENOSPC
    return 0


def main(root: Path, how: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = attempt(root, int(line), how)
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
