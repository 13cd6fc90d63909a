"""A server that is down is asked now and then, and nobody else waits for it."""

import threading
import time

from feature_repo.outage import Outage


def test_a_server_that_is_up_may_always_be_asked() -> None:
    outage = Outage()
    assert outage.error is None
    assert all(outage.is_to_be_asked() for _ in range(3))


def test_while_it_is_down_one_caller_in_a_while_is_to_be_asked() -> None:
    outage, error = Outage(ask_again_s=0.2), OSError("refused")
    outage.began(error)
    assert outage.error is error
    assert not outage.is_to_be_asked()
    time.sleep(0.25)
    assert [outage.is_to_be_asked() for _ in range(3)] == [True, False, False]


def test_once_it_has_answered_everybody_may_ask_again() -> None:
    outage = Outage(ask_again_s=60)
    outage.began(OSError("refused"))
    assert not outage.is_to_be_asked()
    outage.ended()
    assert outage.error is None
    assert outage.is_to_be_asked()


def test_of_many_who_come_at_once_one_is_to_be_asked() -> None:
    outage, asked = Outage(ask_again_s=0.1), []
    outage.began(OSError("refused"))
    time.sleep(0.15)
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        if outage.is_to_be_asked():
            asked.append(threading.get_ident())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
