"""The file of callers: what is written, read, taken away, and refused."""

import hashlib
import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from ranker.service import callers
from ranker.service.callers import MOST_LINES, Rate

TEN = Rate(requests_per_s=10, burst=20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "callers.jsonl"


def test_a_token_tells_whose_it_is(path: Path) -> None:
    shop, blog = callers.add(path, "shop"), callers.add(path, "blog")
    known = callers.read(path)
    assert [known.by_token(token).name for token in (shop, blog)] == ["shop", "blog"]  # type: ignore[union-attr]
    for wrong in ("", shop[:-1], f"{shop}x", shop.upper(), "\ud800", "ü" * 5000):
        assert known.by_token(wrong) is None


def test_only_the_hash_of_a_token_is_written(path: Path) -> None:
    token = callers.add(path, "shop", rate=TEN)
    assert token.startswith("sommelier_")
    assert len(token) >= 50
    assert json.loads(path.read_text()) == {
        "caller": "shop",
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "requests_per_s": 10,
        "burst": 20,
    }


def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode(path: Path) -> None:
    callers.add(path, "shop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    callers.add(path, "blog")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_old_token_holds_beside_its_successor_until_it_is_revoked(path: Path) -> None:
    former, newest = callers.add(path, "shop", rate=TEN), callers.add(path, "shop")
    blog = callers.add(path, "blog")
    known = callers.read(path)
    assert {known.by_token(token).rate for token in (former, newest)} == {TEN}  # type: ignore[union-attr]
    assert callers.revoke(path, "shop", but_newest=True) == 1
    known = callers.read(path)
    assert [known.by_token(token) is not None for token in (former, newest, blog)] == [
        False,
        True,
        True,
    ]
    assert callers.revoke(path, "shop") == 1
    assert [line.name for line in callers.read(path).lines] == ["blog"]


def test_revoking_nobody_says_who_there_is(path: Path) -> None:
    callers.add(path, "shop")
    with pytest.raises(ValueError, match="knows no caller 'shoop'; it knows shop"):
        callers.revoke(path, "shoop")


def test_a_caller_may_come_with_a_certificate(path: Path) -> None:
    assert callers.add(path, "spiffe://shop/web", rate=TEN, has_token=False) == ""
    callers.add(path, "spiffe://shop/web", has_token=False)
    known = callers.read(path)
    assert len(known.lines) == 1
    assert known.by_certificate(["other", "spiffe://shop/web"]) == known.lines[0]
    assert known.by_certificate(["other"]) is None


def test_a_certificates_name_does_not_stand_for_a_token(path: Path) -> None:
    callers.add(path, "shop")
    assert callers.read(path).by_certificate(["shop"]) is None


def test_a_second_rate_for_one_caller_is_refused(path: Path) -> None:
    callers.add(path, "shop", rate=TEN)
    with pytest.raises(ValueError, match="shop has another rate"):
        callers.add(path, "shop", rate=Rate(requests_per_s=11, burst=20))
    path.write_text(path.read_text() + '{"caller": "shop"}\n')
    with pytest.raises(ValueError, match="the lines of shop name several rates"):
        callers.read(path)


@pytest.mark.parametrize("name", ["", "a shop", "sh\nop", "läden", "x" * 129])
def test_a_name_that_a_log_could_trip_over_is_refused(path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="CALLER must be 1 to 128 characters"):
        callers.add(path, name)
    assert not path.exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sommelier_abc", "not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"sha256": "ab"}', "expected a JSON object with caller"),
        ('{"caller": "shop", "token": "sommelier_abc"}', "expected a JSON object with caller"),
        ('{"caller": 7}', "caller must be 1 to 128 characters"),
        ('{"caller": "shop", "sha256": "ABC"}', "sha256 must be 64 hexadecimal digits"),
        ('{"caller": "shop", "requests_per_s": "ten"}', "requests_per_s must be a number"),
        ('{"caller": "shop", "requests_per_s": true}', "requests_per_s must be a number"),
        ('{"caller": "shop", "burst": 2}', "requests_per_s must be a number"),
        ('{"caller": "shop", "requests_per_s": NaN}', "must be above 0"),
        ('{"caller": "shop", "requests_per_s": 1, "burst": 0}', "burst must be at least 1"),
        ('{"caller": "shop", "requests_per_s": 1e999}', "must be above 0"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_never_quoted(
    path: Path, line: str, told: str
) -> None:
    path.write_text(f'{{"caller": "blog"}}\n\n{line}\n')
    with pytest.raises(ValueError, match="line 3") as refused:
        callers.read(path)
    assert told in str(refused.value)
    assert "sommelier_abc" not in str(refused.value)
    assert refused.value.__cause__ is None or "sommelier_abc" not in str(refused.value.__cause__)


def test_a_broken_file_is_left_as_it_is(path: Path) -> None:
    path.write_text("not JSON")
    with pytest.raises(ValueError, match="line 1"):
        callers.add(path, "shop")
    assert path.read_text() == "not JSON"


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        callers.read(path)


def test_more_callers_than_can_be_compared_are_refused(path: Path) -> None:
    path.write_text("".join(f'{{"caller": "c{n}"}}\n' for n in range(MOST_LINES + 1)))
    with pytest.raises(ValueError, match=f"at most {MOST_LINES} are allowed"):
        callers.read(path)


def test_a_rate_without_a_burst_grants_a_seconds_requests(path: Path) -> None:
    path.write_text(
        '{"caller": "shop", "requests_per_s": 7.6}\n{"caller": "b", "requests_per_s": 0.1}'
    )
    assert [one.rate.burst for one in callers.read(path).lines if one.rate] == [8, 1]


def test_several_processes_lose_no_line(path: Path) -> None:
    adding = [
        multiprocessing.get_context("spawn").Process(target=_add, args=(path, n)) for n in range(2)
    ]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
    assert len(callers.read(path).lines) == 20


def _add(path: Path, number: int) -> None:
    for place in range(10):
        callers.add(path, f"caller-{number}-{place}")
