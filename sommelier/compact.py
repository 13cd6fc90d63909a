"""A store of many small files in, one of few out, without what is too old or no longer used."""

import re
from datetime import timedelta

from embedders.vectors import Space
from feature_repo.compaction import Compacted
from feature_repo.releases import origin_id
from feature_repo.text_rows import last_written
from ranker.generation import GenerationError
from sommelier.publish import generations, releases
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace, source_of

MEGABYTE = 1_000_000


def compact(
    workspace: Workspace,
    *,
    watch: Watch,
    keep: str | None = None,
    drops: bool = False,
    is_dry: bool = False,
) -> Summary:
    """Merge every view's small parts.

    Args:
        workspace: Whose store.
        watch: Sees each view.
        keep: What was superseded so many days ago is dropped, such as `365d`; None keeps all.
        drops: Drop the spaces and text sources that are neither those of the last embedding and
            summarizing nor of any generation that is still there; take their views offline.
        is_dry: Only look.

    Raises:
        ValueError: an unreadable number of days, or a generation that cannot say what it reads.
    """
    kept_for = None if keep is None else days(keep)
    in_use = ids_in_use(workspace) if drops else None
    if drops and not is_dry:
        with watch.task("views into the registry"):
            workspace.store.apply(releases=releases(workspace))
    with watch.task("views") as advance:
        done = workspace.store.compact(
            keep=kept_for,
            in_use=in_use,
            is_dry_run=is_dry,
            on_progress=lambda view, done, total: advance(done, total, view),
        )
    if any(_is_gone(one) for one in done) and drops and not is_dry:
        with watch.task("dropped views out of the registry"):
            workspace.store.apply()
    return _summary(done, is_dry=is_dry)


def days(keep: str) -> timedelta:
    """`365d` or `365`.

    Raises:
        ValueError: anything else.
    """
    if not (match := re.fullmatch(r"(\d{1,6})d?", keep.strip())):
        raise ValueError(f"--keep takes a number of days such as 365d, got {keep!r}")
    return timedelta(days=int(match[1]))


def ids_in_use(workspace: Workspace) -> set[str]:
    """The ids of what the last embedding, index and summarizing wrote, and each generation reads.

    Of spaces and of text sources. A source that is still being written counts as well.

    Raises:
        ValueError: nothing was embedded, or a generation is damaged: nobody knows what it reads.
    """
    used = {space.space_id for space in workspace.spaces()} | _sources_in_use(workspace)
    if fused := workspace.state.read("index").get("fused_space"):
        used.add(Space(**fused).space_id)
    every = generations(workspace)
    try:
        found = [every.read(generation_id) for generation_id in every.ids()]
        if found:
            found.append(every.current())
    except GenerationError as error:
        raise ValueError(
            f"{error}; until then nobody knows what it reads, and none is dropped"
        ) from error
    for generation in found:
        used |= set(map(origin_id, generation.stored))
    return used


def _sources_in_use(workspace: Workspace) -> set[str]:
    """Those that were last written as a whole, and any of their kind written to since.

    A run that was interrupted has paid for its texts, and goes on where it was.
    """
    store, noted = workspace.store, workspace.state.read("summarize")
    since = {kind: source_of(facts) for kind, facts in noted.items()}
    return {
        source_id
        for source_id, source in store.text_sources().items()
        if (whole := since.get(source.kind)) is None
        or source == whole
        or last_written(store.root, source) > last_written(store.root, whole)
    }


def _is_gone(one: Compacted) -> bool:
    return one.parts_before > one.parts_after == 0


def _summary(done: list[Compacted], *, is_dry: bool) -> Summary:
    saved = sum(one.bytes_before - one.bytes_after for one in done)
    is_new = any(one.parts_before != one.parts_after or one.rows_dropped for one in done)
    rows = tuple(
        (
            one.view,
            one.parts_before,
            one.parts_after,
            round(one.bytes_before / MEGABYTE, 2),
            round(one.bytes_after / MEGABYTE, 2),
            one.rows_dropped,
        )
        for one in done
    )
    title = "Would be compacted" if is_dry else "Compacted"
    return Summary(
        title=title if is_new else "Nothing to compact",
        header=("view", "parts", "then", "MB", "then", "rows dropped"),
        rows=rows,
        notes=() if is_dry else (f"{saved / MEGABYTE:,.2f} MB less on disk",),
        is_new=is_new,
    )
