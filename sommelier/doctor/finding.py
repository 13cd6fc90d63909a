"""What an examination saw in, a table for people and JSON for monitoring out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sommelier.watch import Summary


class Verdict(StrEnum):
    """What follows from a finding."""

    GOOD = "good"
    ADVICE = "advice"
    """Everything works; the command makes it smaller or faster."""
    FAULT = "fault"
    """Something is wrong until the command has run."""


DAMAGED = "restore the named file from a backup, or delete it and run sommelier embed"
MARKS = {Verdict.GOOD: "✓", Verdict.ADVICE: "·", Verdict.FAULT: "✗"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    seen: str
    repair: str = ""
    """The command that mends it; empty where all is well."""
    is_advice: bool = False
    """Whether everything works without the command."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The numbers behind what was seen, for monitoring."""

    @property
    def verdict(self) -> Verdict:
        """What follows from it."""
        if not self.repair:
            return Verdict.GOOD
        return Verdict.ADVICE if self.is_advice else Verdict.FAULT


def of_error(what: str, error: Exception, *, repair: str) -> Finding:
    """What a check failed on: our own errors say what to do, a library's name a damaged file."""
    if isinstance(error, ValueError | OSError | ImportError):
        return Finding(what=what, seen=str(error), repair=repair)
    return Finding(what=what, seen=f"{type(error).__name__}: {error}", repair=DAMAGED)


def counted(counts: Mapping[str, int]) -> str:
    """The numbers in words, without those that are zero."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"


def faults(findings: Sequence[Finding]) -> list[Finding]:
    """Those that need repair."""
    return [one for one in findings if one.verdict is Verdict.FAULT]


def summary(findings: Sequence[Finding]) -> Summary:
    """The findings as a table."""
    wrong = faults(findings)
    return Summary(
        title=f"{len(wrong)} of {len(findings)} findings need repair" if wrong else "All is well",
        header=("", "what", "found", "repair"),
        rows=tuple((MARKS[one.verdict], one.what, one.seen, one.repair) for one in findings),
    )


def facts(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as JSON holds them."""
    return {
        "is_well": not faults(findings),
        "findings": [
            {
                "what": one.what,
                "verdict": one.verdict.value,
                "seen": one.seen,
                "repair": one.repair,
                "counts": dict(one.counts),
            }
            for one in findings
        ],
    }
