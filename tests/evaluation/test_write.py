"""Three files, one truth."""

import json

from evaluation.report import as_dict
from evaluation.write import write


def test_the_report_is_written_in_three_forms_over_an_earlier_one(report, tmp_path):
    folder = tmp_path / "new" / "folder"
    write(report, folder)
    files = write(report, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert json.loads(files.json.read_text()) == json.loads(json.dumps(as_dict(report)))
    assert files.markdown.read_text().startswith("# Evaluation\n")
    assert files.html.read_text().lstrip().startswith("<!DOCTYPE html>")
