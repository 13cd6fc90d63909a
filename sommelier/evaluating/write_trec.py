"""The last report's runs in, TREC's files of them out."""

from pathlib import Path

from evaluation import run_files, trec
from sommelier.workspace import Workspace

TREC, QRELS = "trec", "judgements.qrels"


def write_trec(workspace: Workspace) -> list[Path]:
    """Every run of the last report and its judgements as TREC's files; where they lie."""
    files = run_files.RunFiles(folder=workspace.settings.paths.report)
    folder = files.folder / TREC
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{route}.run" for route in files.routes]
    for route, path in zip(files.routes, paths, strict=True):
        trec.write_run(run_files.read_run(files.run(route)), path, tag=route)
    trec.write_qrels(run_files.read_judgements(files.folder), folder / QRELS)
    return [*paths, folder / QRELS]
