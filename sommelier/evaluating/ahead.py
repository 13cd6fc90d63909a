"""Settings on the standard input in, ablations in the journal of another's evaluation out.

`python -m sommelier.evaluating.ahead GENERATION KEY` is what `beside.helped` starts.
"""

import os
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing

from evaluation.evaluate import make_ahead
from evaluation.history import seen_before
from evaluation.journal import Journal
from sommelier.evaluating.evaluate import (
    JOURNAL,
    ablated_routes,
    asked_queries,
    journal_key,
    judged,
)
from sommelier.serve import loaded
from sommelier.settings_file import parse
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace


def main() -> None:
    """Work until nothing is left, or until whoever started this is gone."""
    generation_id, key = sys.argv[1:]
    parent = os.getppid()
    with closing(Workspace(parse(tomllib.loads(sys.stdin.read())))) as workspace:
        work(workspace, generation_id, key, goes_on=lambda: os.getppid() == parent)


def work(
    workspace: Workspace, generation_id: str, key: str, *, goes_on: Callable[[], bool]
) -> None:
    """Measure the ablations from the last one on.

    Raises:
        ValueError: what is to be measured is no longer what it was.
    """
    serving = loaded(workspace, watch=Unwatched(), online=False, generation_id=generation_id)
    if journal_key(workspace, serving, has_ablations=True) != key:
        raise ValueError(f"{generation_id} is to be measured otherwise than when this was started")
    whole = judged(workspace)
    seen = seen_before(workspace.timed_interactions, whole.judgements)
    make_ahead(
        whole.judgements,
        ablations=ablated_routes(workspace, serving),
        queries=asked_queries(workspace, serving, whole, seen),
        config=workspace.settings.evaluation,
        journal=Journal(workspace.settings.paths.report / JOURNAL, key=key),
        goes_on=goes_on,
    )


if __name__ == "__main__":
    main()
