"""Who ends workers in a row is set aside for a while; who was answered in between is not."""

import pytest

from ranker.service.statuses import Reason, StatusError
from ranker.service.strikes import MOST, MOST_REQUESTS, SET_ASIDE_S, Strikes


def strikes() -> tuple[Strikes, list[float]]:
    now = [0.0]
    return Strikes(clock=lambda: now[0]), now


def is_refused(one: Strikes, request: bytes) -> bool:
    try:
        one.check(lambda: request)
    except StatusError as error:
        return error.reason is Reason.REQUEST_SET_ASIDE
    return False


def test_a_request_is_refused_after_so_many_deaths_in_a_row_and_no_other_one_is() -> None:
    one, _ = strikes()
    for num in range(MOST):
        assert not is_refused(one, b"a"), num
        one.died(lambda: b"a")
    assert is_refused(one, b"a")
    assert not is_refused(one, b"b")


def test_an_answer_in_between_clears_it() -> None:
    one, _ = strikes()
    for _ in range(2 * MOST):
        one.died(lambda: b"a")
        one.answered(lambda: b"a")
    assert not is_refused(one, b"a")


def test_it_may_be_tried_again_after_a_while_and_deaths_long_ago_do_not_count() -> None:
    one, now = strikes()
    for _ in range(MOST):
        one.died(lambda: b"a")
    now[0] = SET_ASIDE_S - 1
    assert is_refused(one, b"a")
    now[0] = SET_ASIDE_S + 1
    assert not is_refused(one, b"a")
    one.died(lambda: b"a")
    assert not is_refused(one, b"a")


def test_nothing_is_written_out_while_no_worker_died() -> None:
    one, _ = strikes()
    one.check(lambda: pytest.fail("asked"))
    one.answered(lambda: pytest.fail("asked"))


def test_only_so_many_are_remembered() -> None:
    one, _ = strikes()
    for _ in range(MOST):
        one.died(lambda: b"first")
    for n in range(MOST_REQUESTS):
        one.died(lambda n=n: str(n).encode())
    assert not is_refused(one, b"first")
