"""What `make check` says of the lock's packages, by what the services of advisories answer."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
WELL = {"name": "well", "version": "1", "vulns": []}
ILL = {
    "name": "ill",
    "version": "2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1", "3"]}],
}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with a pip-audit of our own that answers what the test writes down."""
    spec = importlib.util.spec_from_file_location("audit", REPOSITORY / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "pip_audit"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(
        "import pathlib, sys\n"
        "answer = pathlib.Path(__file__).with_name(sys.argv[-1])\n"
        "sys.exit(0 if not answer.exists() and sys.stderr.write('no way there') else "
        "print(answer.read_text()))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module.folder = folder
    return module


def answers(audit: Any, service: str, *packages: dict[str, Any]) -> None:
    (audit.folder / service).write_text(json.dumps({"dependencies": packages}))


def test_nothing_found_is_well(audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers(audit, "pypi", WELL)
    assert audit.main(Path("lock")) == 0
    assert capsys.readouterr().out == "pip-audit: 1 packages asked of pypi, 0 vulnerable\n"


def test_a_vulnerable_package_fails_and_says_what_mends_it(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(audit, "pypi", WELL, ILL, UNKNOWN)
    assert audit.main(Path("lock")) == 1
    told = capsys.readouterr().out
    assert "ill 2: PYSEC-2026-1 (mended in 2.1, 3)" in told
    assert "NOT CHECKED: ours" in told


def test_an_index_without_advisories_does_not_pass_for_a_clean_bill(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(audit, "pypi", UNKNOWN, UNKNOWN)
    answers(audit, "osv", ILL)
    assert audit.main(Path("lock")) == 1
    assert "asked of osv, 1 vulnerable" in capsys.readouterr().out


def test_where_nobody_can_be_reached_that_is_what_is_printed(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(audit, "pypi", UNKNOWN)
    assert audit.main(Path("lock")) == 0
    assert capsys.readouterr().out == (
        "pip-audit: NOT CHECKED: no advisory service can be reached "
        "(pypi: knows none of 1 packages; osv: no way there)\n"
    )


def test_the_real_pip_audit_understands_what_it_is_asked(
    audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    lock = tmp_path / "lock"
    lock.write_text("# nothing, so nobody is asked\n")
    assert audit.split(audit.asked("pypi", lock)) == ([], [])
