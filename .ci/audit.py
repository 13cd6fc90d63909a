"""requirements.lock in, known vulnerabilities of what it pins out.

pip-audit asks a service of advisories. One that answers "never heard of it" for everything, as an
index without advisories does, would pass for a clean bill: so what was not audited is counted, and
where nothing was, this says so. Exit status 1 is for vulnerabilities alone.
"""

import json
import subprocess  # nosec B404
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
PATIENCE_S = 300


def main(lock: Path) -> int:
    """Asks one service after the other until one of them knows something."""
    told = []
    for service in SERVICES:
        answer = asked(service, lock)
        if isinstance(answer, str):
            told.append(f"{service}: {answer}")
            continue
        audited, skipped = split(answer)
        if not audited:
            told.append(f"{service}: knows none of {len(skipped)} packages")
            continue
        found = [
            f"{one['name']} {one['version']}: {_advisories(one)}" for one in audited if one["vulns"]
        ]
        print(f"pip-audit: {len(audited)} packages asked of {service}, {len(found)} vulnerable")
        if skipped:
            print(f"pip-audit: NOT CHECKED: {', '.join(sorted(skipped))}")
        print(*found, sep="\n", end="\n" if found else "")
        return 1 if found else 0
    print(f"pip-audit: NOT CHECKED: no advisory service can be reached ({'; '.join(told)})")
    return 0


def asked(service: str, lock: Path) -> Mapping[str, Any] | str:
    """What pip-audit reports, or why it cannot."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "-r", str(lock)]
    command += ["--progress-spinner", "off", "-f", "json", "-s", service]
    try:
        run = subprocess.run(  # nosec B603
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        report: Mapping[str, Any] = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE_S} s"
    except json.JSONDecodeError:
        lines = run.stderr.strip().splitlines() or ["no report"]
        return lines[-1][:200]
    return report


def split(report: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The packages that were audited, and the names of the others."""
    packages: Iterable[Mapping[str, Any]] = report["dependencies"]
    audited = [one for one in packages if "skip_reason" not in one]
    return audited, [one["name"] for one in packages if "skip_reason" in one]


def _advisories(package: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{one['id']} (mended in {', '.join(one['fix_versions']) or 'no version'})"
        for one in package["vulns"]
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
