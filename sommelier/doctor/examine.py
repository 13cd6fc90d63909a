"""A workspace in, everything that is wrong with it out, each with the command that repairs it.

Nothing is changed. Content that is missing, and rows that were set aside, are facts about the
catalog and no faults; what is stale, damaged or out of step is. The catalog and the store are
joined as streams, so that what is held does not grow with the number of items, except for what
the route itself holds: its index and its adapter.
"""

from collections.abc import Callable, Iterator

from sommelier.doctor import catalog, encoders, route, store, texts
from sommelier.doctor.finding import Finding, of_error
from sommelier.doctor.repairs import EMBED, INDEX, MATERIALIZE, PUBLISH, SUMMARIZE, TRAIN
from sommelier.watch import Watch
from sommelier.workspace import Workspace

Check = Callable[[Workspace, Watch], Iterator[Finding]]

CHECKS: tuple[tuple[str, Check, str], ...] = (
    ("catalog", catalog.examine, f"mend the catalog, then {EMBED}"),
    ("texts", texts.examine, SUMMARIZE),
    ("encoders", encoders.examine, EMBED),
    ("views", store.examine_views, MATERIALIZE),
    ("parts", store.examine_parts, EMBED),
    ("adapter", route.examine_adapter, TRAIN),
    ("index", route.examine_index, INDEX),
    ("generation", route.examine_generation, PUBLISH),
)


def examine(workspace: Workspace, *, watch: Watch) -> tuple[Finding, ...]:
    """Every finding, in the order of the route; the first fault often explains the later ones."""
    findings: list[Finding] = []
    for what, check, repair in CHECKS:
        try:
            findings += check(workspace, watch)
        except Exception as error:  # whatever a library makes of a damaged file
            findings.append(of_error(what, error, repair=repair))
    return tuple(findings)
