"""A caller's bucket, by a clock that the test holds in its hand."""

import pytest
from google.rpc import error_details_pb2

from ranker.service.callers import Rate
from ranker.service.rates import MOST_BUCKETS, Rates
from ranker.service.statuses import Reason, StatusError

TWO_A_SECOND = Rate(requests_per_s=2, burst=3)


def num_granted(rates: Rates, caller: str, *, now: float, most: int = 10) -> int:
    for count in range(most):
        try:
            rates.take(caller, TWO_A_SECOND, now=now)
        except StatusError:
            return count
    return most


def test_a_burst_is_granted_at_once_and_then_the_rate() -> None:
    rates = Rates()
    assert num_granted(rates, "shop", now=0) == 3
    assert num_granted(rates, "shop", now=0.5) == 1
    assert num_granted(rates, "shop", now=1.5) == 2


def test_a_long_pause_grants_no_more_than_a_burst() -> None:
    rates = Rates()
    num_granted(rates, "shop", now=0)
    assert num_granted(rates, "shop", now=1e6) == 3


def test_one_caller_does_not_pay_for_another() -> None:
    rates = Rates()
    num_granted(rates, "shop", now=0)
    assert num_granted(rates, "blog", now=0) == 3


def test_a_clock_that_goes_back_neither_grants_nor_takes() -> None:
    rates = Rates()
    num_granted(rates, "shop", now=100)
    assert num_granted(rates, "shop", now=50) == 0
    assert num_granted(rates, "shop", now=100.5) == 1


def test_a_refusal_says_when_the_next_request_is_granted() -> None:
    rates = Rates()
    num_granted(rates, "shop", now=0)
    with pytest.raises(StatusError) as refused:
        rates.take("shop", TWO_A_SECOND, now=0.1)
    details = {detail.TypeName(): detail for detail in refused.value.status.details}
    retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    details["google.rpc.RetryInfo"].Unpack(retry)
    details["google.rpc.QuotaFailure"].Unpack(quota)
    assert refused.value.reason is Reason.RATE_LIMITED
    wait_s = retry.retry_delay.ToNanoseconds() / 1e9
    assert wait_s == pytest.approx(0.4)
    assert [violation.subject for violation in quota.violations] == ["caller:shop"]
    rates.take("shop", TWO_A_SECOND, now=0.1 + wait_s + 1e-6)


def test_any_number_of_names_takes_a_bounded_memory() -> None:
    rates = Rates()
    for number in range(2 * MOST_BUCKETS):
        rates.take(f"name {number}", TWO_A_SECOND, now=number)
    assert len(rates) <= MOST_BUCKETS


def test_whoever_goes_on_asking_is_not_forgotten() -> None:
    rates, slow = Rates(), Rate(requests_per_s=1e-9, burst=2 * MOST_BUCKETS // 100)
    for number in range(2 * MOST_BUCKETS):
        rates.take(f"name {number}", TWO_A_SECOND, now=number)
        if number % 100 == 0:
            rates.take("busy", slow, now=number)
    with pytest.raises(StatusError):
        rates.take("busy", slow, now=number)
