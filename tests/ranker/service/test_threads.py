"""A thread of its own: its work in order, what goes wrong in it, and its end."""

import threading
import time
import weakref
from functools import partial

import pytest

from ranker.service.threads import WorkerThread

PATIENCE_S = 10


class Work:
    """Says that it was done, and by whom."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.name = ""

    def __call__(self) -> None:
        self.name = threading.current_thread().name
        self.done.set()


def test_work_is_done_in_the_order_it_came_and_all_of_it_before_the_end() -> None:
    done: list[int] = []
    thread = WorkerThread("one")
    for number in range(100):
        thread.begin(partial(done.append, number))
    thread.close()
    assert done == list(range(100))
    assert "one" not in [other.name for other in threading.enumerate()]


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
def test_work_that_fails_is_logged_and_takes_nothing_along(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    thread, after = WorkerThread("one"), Work()
    thread.begin(fail)
    thread.begin(after)
    thread.close()
    assert after.name == "one"
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_work_that_is_done_is_let_go_while_the_thread_waits_for_more() -> None:
    thread, work = WorkerThread("one"), Work()
    seen = weakref.ref(work)
    thread.begin(work)
    assert work.done.wait(PATIENCE_S)
    del work
    give_up = time.monotonic() + PATIENCE_S
    while seen() is not None:
        assert time.monotonic() < give_up, "the thread holds on to what it has done"
        time.sleep(0.001)
    thread.close()


def test_a_thread_without_work_is_never_started() -> None:
    thread = WorkerThread("idle")
    assert "idle" not in [other.name for other in threading.enumerate()]
    thread.close()
