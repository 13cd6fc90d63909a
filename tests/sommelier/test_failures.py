"""What a user can mend becomes a message; what is our fault keeps its traceback."""

import warnings

import pytest
import typer

from ranker.answers import RankerError
from sommelier.failures import told


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such column"),
        ImportError("pip install it"),
        FileNotFoundError(2, "No such file", "x.csv"),
        RankerError("who?", code="NOT_FOUND", reason="UNKNOWN_USER"),
    ],
)
def test_what_can_be_mended_is_told_in_one_message(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as left, told(is_debug=False):
        raise error
    assert left.value.exit_code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert str(error) in shown.err
    assert "Traceback" not in shown.err


def test_debugging_shows_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), told(is_debug=True):
        raise ValueError("no such column")
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "sommelier: no such column" in shown


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(AssertionError), told(is_debug=False):
        raise AssertionError("ours")


def test_an_interruption_says_that_the_work_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, told(is_debug=False):
        raise KeyboardInterrupt
    assert left.value.exit_code == 130
    assert "what was done is kept" in capsys.readouterr().err


def test_a_message_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), told(is_debug=False):
        raise ValueError("run pip install 'sommelier[embed]'; got [red]")
    assert "'sommelier[embed]'; got [red]" in capsys.readouterr().err


def test_warnings_of_libraries_are_for_those_who_debug() -> None:
    with told(is_debug=False):
        warnings.warn("an old name", FutureWarning, stacklevel=1)
    warnings.simplefilter("error")
    with pytest.raises(FutureWarning), told(is_debug=True):
        warnings.warn("an old name", FutureWarning, stacklevel=1)
