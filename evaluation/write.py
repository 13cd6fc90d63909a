"""A report in, report.json, report.md and report.html out."""

import json
from dataclasses import dataclass
from pathlib import Path

from evaluation.markdown import markdown
from evaluation.page import page
from evaluation.report import Report, as_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """Where one report lies."""

    json: Path
    markdown: Path
    html: Path


def write(report: Report, folder: Path) -> ReportFiles:
    """Write the report in its three forms into `folder`, over any earlier one there.

    The JSON is strict: a value that is not a number is refused rather than written as NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(
        json=folder / "report.json", markdown=folder / "report.md", html=folder / "report.html"
    )
    plain = json.dumps(as_dict(report), indent=2, ensure_ascii=False, allow_nan=False)
    files.json.write_text(plain + "\n", encoding="utf-8")
    files.markdown.write_text(markdown(report), encoding="utf-8")
    files.html.write_text(page(report), encoding="utf-8")
    return files
