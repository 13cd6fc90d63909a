"""A process that a test starts does not outlive it."""

import sys

import pytest

from tests.child import child

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_process_ends_with_a_test_that_fails() -> None:
    with pytest.raises(ValueError, match="went wrong"), child(SLEEP) as process:
        raise ValueError("it went wrong")
    assert process.returncode == -9


def test_a_process_that_has_ended_keeps_its_exit_code() -> None:
    with child([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
    assert process.returncode == 3
