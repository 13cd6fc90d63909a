"""Records that survive: all of them, in order, but one that was being written."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.base import UnusableIndex
from retrieval.journal import HEAD_BYTES, MAGIC, Journal

RECORDS = [b"one", b"", b"three" * 1000]


def written(path: Path) -> bytes:
    journal = Journal.open(path, index="first")
    for record in RECORDS:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def reread(path: Path) -> list[bytes]:
    journal = Journal.open(path, index="other")
    journal.close()
    return journal.records


def test_what_was_written_is_read_again_with_its_index(tmp_path: Path) -> None:
    written(tmp_path / "new" / "journal")
    journal = Journal.open(tmp_path / "new" / "journal", index="other")
    assert (journal.index, journal.records) == ("first", RECORDS)
    journal.append(b"four")
    journal.close()
    assert reread(tmp_path / "new" / "journal") == [*RECORDS, b"four"]


def test_a_record_cut_anywhere_is_dropped_with_a_message_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal"
    whole = written(path)
    start = len(whole) - HEAD_BYTES - len(RECORDS[-1])
    for end in (start + 1, start + 9, start + HEAD_BYTES, start + HEAD_BYTES + 7, len(whole) - 1):
        caplog.clear()
        path.write_bytes(whole[:end])
        with caplog.at_level(logging.WARNING):
            assert reread(path) == RECORDS[:-1]
        assert f"{end - start} bytes that were being written" in caplog.text
        assert path.read_bytes() == whole[:start]


def test_a_record_whose_bytes_never_came_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = written(path)
    path.write_bytes(whole + b"\0" * 5000)
    assert reread(path) == RECORDS
    path.write_bytes(whole[:-10] + b"\0" * 10)
    assert reread(path) == RECORDS[:-1]


def test_after_a_dropped_record_the_next_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(written(path)[:-1])
    journal = Journal.open(path, index="first")
    journal.append(b"next")
    journal.close()
    assert reread(path) == [*RECORDS[:-1], b"next"]


@pytest.mark.parametrize("place", [0, len(MAGIC) + 2, len(MAGIC) + 9, len(MAGIC) + 50, 120, 160])
def test_damage_before_the_last_record_is_an_error_that_names_the_place(
    tmp_path: Path, place: int
) -> None:
    path = tmp_path / "journal"
    whole = bytearray(written(path))
    whole[place] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(UnusableIndex, match=r"is damaged at byte \d+: restore it, or move it away"):
        Journal.open(path, index="first")
    assert path.read_bytes() == bytes(whole)


def test_all_records_are_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    journal = Journal.open(path, index="first")
    journal.restart(index="second", records=[b"kept"])
    journal.append(b"further")
    journal.close()
    again = Journal.open(path, index="third")
    assert (again.index, again.records) == ("second", [b"kept", b"further"])
    again.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", index="first")
    code = (
        "import sys; from pathlib import Path; from retrieval.journal import Journal\n"
        "try: Journal.open(Path(sys.argv[1]), index='x')\n"
        "except ValueError as error: print(error)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "another process has" in seen.stdout
    journal.close()
    assert reread(tmp_path / "journal") == []
