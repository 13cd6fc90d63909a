"""A settings file in, the doctor's findings by what they are about out, mended or not."""

import json
from pathlib import Path
from typing import Any

from tests.sommelier.conftest import Run

Findings = dict[str, dict[str, Any]]


def examined(run: Run, settings: Path) -> Findings:
    """What the doctor says, as monitoring reads it; the exit code fits."""
    result = run("doctor", "--json", "--settings", settings)
    told = json.loads(result.stdout)
    findings: Findings = {one["what"]: one for one in told["findings"]}
    assert len(findings) == len(told["findings"]), "two findings of one name"
    has_faults = any(one["verdict"] == "fault" for one in findings.values())
    assert told["is_well"] == (not has_faults)
    assert result.exit_code == int(has_faults), result.output + result.stderr
    return findings


def assert_mended(
    run: Run, settings: Path, what: str, *, repair: str, verdict: str = "fault"
) -> dict[str, Any]:
    """The doctor names the command, the command runs, and the finding is good; as it was before."""
    found = examined(run, settings)[what]
    assert (found["verdict"], found["repair"]) == (verdict, repair), found
    result = run(*repair.split()[1:], "--settings", settings)
    assert result.exit_code == 0, result.output + result.stderr
    after = examined(run, settings)[what]
    assert (after["verdict"], after["repair"]) == ("good", ""), after
    return found
