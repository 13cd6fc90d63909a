"""A workspace's catalog in, a proof that the future does not reach into what is fitted out.

The route is gone twice, in temporary workspaces with the same settings: once on a copy of the
catalog as it is, once on a copy whose future was exchanged (`sommelier.evaluating.future`). Then
both are asked for the same users as of the cut. Whatever differs by a single bit has seen the
future, and the first stage that differs is where it looked. Both runs take one thread, so that no
difference is an accident of the order of sums.

What a catalog states of its items only as they are now (a title that was changed later, an edge
without a time) has no other version to be compared with: it is taken as known.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ranker.loaded import LoadedGeneration
from sommelier.embedding.embed import embed
from sommelier.evaluating.artifacts import Asked, Difference, compare, stages
from sommelier.evaluating.future import Copied, write_copy
from sommelier.index import index
from sommelier.publish import publish
from sommelier.serve import loaded
from sommelier.settings import PathSettings, Settings, TimeSettings
from sommelier.training.train import train
from sommelier.watch import Summary, Unwatched, Watch
from sommelier.workspace import Workspace
from sommelier.writing.summarize import summarize

SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What an audit found."""

    differences: tuple[Difference, ...]
    """The first of each stage that differs, in the order of the stages; empty where none does."""
    stages: tuple[str, ...]
    """All that were compared."""
    summary: Summary

    @property
    def is_clean(self) -> bool:
        """Whether nothing from behind the cut was seen."""
        return not self.differences


class Traveler:
    """A route that was gone all the way on one copy of the catalog."""

    def __init__(self, settings: Settings, copied: Copied) -> None:
        self.workspace = Workspace(settings)
        self.copied = copied

    @cached_property
    def serving(self) -> LoadedGeneration:
        """What was published, loaded when it is first asked."""
        return loaded(self.workspace, watch=Unwatched(), online=False)

    def go(self, watch: Watch) -> None:
        """From what is written to publishing; what is done already is not done again."""
        settings = self.workspace.settings
        if settings.summaries.enabled or settings.preferences.enabled:
            summarize(self.workspace, watch=watch)
        embed(self.workspace, watch=watch)
        for stage in (train, index, publish):
            stage(self.workspace, watch=watch)


def audit(
    workspace: Workspace,
    *,
    watch: Watch,
    num_users: int = 50,
    seed: int = 0,
    folder: Path | None = None,
) -> Audited:
    """Go the route on the catalog and on one with another future, and compare bit by bit.

    Args:
        workspace: Whose catalog and settings are audited; nothing of it is touched.
        watch: Whoever watches.
        num_users: At most so many users are asked, drawn evenly among those with a history.
        seed: What the other future and the users are drawn with.
        folder: Where both routes are kept, to be looked at; None forgets them.

    Raises:
        ValueError: nothing lies behind the cut, or the folder is not empty.
    """
    if workspace.timeline.is_open:
        raise ValueError(
            f"no event lies after the cut ({workspace.timeline.cut.isoformat()}), so there is no "
            "future to be exchanged: set an earlier time.cut or time.cut_share"
        )
    with _folder(folder) as root, _one_thread():
        own = prepare(workspace, root / "as-it-is", seed=None)
        other = prepare(workspace, root / "another-future", seed=seed)
        with closing(own.workspace), closing(other.workspace):
            for name, traveler in (("as it is", own), ("with another future", other)):
                watch.heading(f"the route on the catalog {name}")
                traveler.go(watch)
            asked = whom(workspace, own.copied, limit=num_users, seed=seed)
            with watch.task("comparing"):
                return compared(own, other, asked)


def prepare(workspace: Workspace, folder: Path, *, seed: int | None) -> Traveler:
    """A workspace of its own on a copy of the catalog; its route has yet to be gone.

    Its cut is the same moment, and its store the embedded one: neither servers nor buckets nor
    a cluster of the audited workspace are touched.
    """
    line, settings = workspace.timeline, workspace.settings
    catalog = folder / "catalog"
    copied = write_copy(workspace.catalog, catalog, cut=line.cut, seed=seed)
    time = TimeSettings(graph_until=line.graph_until, cut=line.cut)
    if settings.time.split != "time":
        time = TimeSettings(split="given")  # the copy names the bands
    names = PathSettings()
    paths = replace(
        names,
        workspace=folder,
        **{name: folder / name for name in ("models", "index", "generations", "report")},
    )
    return Traveler(
        replace(
            settings,
            catalog=replace(settings.catalog, path=catalog, columns=copied.columns),
            embedding=replace(settings.embedding, engine="local"),
            store=replace(settings.store, root=folder / "store", profile=None, parts_url=None),
            time=time,
            paths=paths,
        ),
        copied,
    )


def whom(workspace: Workspace, copied: Copied, *, limit: int, seed: int) -> Asked:
    """Users with an event before the cut, and the items that were there by then."""
    events = workspace.timed_interactions
    before = events.filter(pc.less(events["timestamp"], workspace.timeline.cut))
    user_ids = sorted(before["user_id"].unique().to_pylist())
    if len(user_ids) > limit:
        drawn = np.random.default_rng(seed).choice(len(user_ids), size=limit, replace=False)
        user_ids = [user_ids[n] for n in np.sort(drawn)]
    item_ids = frozenset(workspace.item_ids) - copied.late_ids
    return Asked(user_ids=user_ids, item_ids=item_ids)


def compared(one: Traveler, other: Traveler, asked: Asked) -> Audited:
    """Every stage of the two routes, bit by bit."""
    names: list[str] = []
    differences: list[Difference] = []
    pairs = zip(
        stages(one.workspace, asked, serving=lambda: one.serving),
        stages(other.workspace, asked, serving=lambda: other.serving),
        strict=True,
    )
    for (name, mine), (_, others) in pairs:
        names.append(name)
        found = compare(name, mine(), others())
        if found is not None:
            differences.append(found)
    summary = _summary(names, differences, one.copied, asked)
    return Audited(differences=tuple(differences), stages=tuple(names), summary=summary)


def _summary(
    names: Sequence[str], differences: Sequence[Difference], copied: Copied, asked: Asked
) -> Summary:
    by_stage = {one.stage: one for one in differences}
    title = "Audited: nothing from behind the cut was seen"
    if differences:
        title = f"Audited: the future was seen, first in: {differences[0].stage}"
    notes = [
        f"{copied.num_future_events:,} events from the cut on were exchanged, "
        f"{copied.num_events:,} before it kept; {len(asked.user_ids):,} users were asked as of it"
    ]
    if copied.late_ids:
        notes.append(f"{len(copied.late_ids):,} items that came later were given other contents")
    else:
        notes.append(
            "no item states that it came to be behind the cut, so no item's content was exchanged"
        )
    return Summary(
        title=title,
        header=("stage", "", "different", "first"),
        rows=tuple(_row(name, by_stage.get(name)) for name in names),
        notes=tuple(notes),
    )


def _row(name: str, found: Difference | None) -> tuple[str, ...]:
    if found is None:
        return (name, SAME, "", "")
    share = f"{found.num_different:,} of {found.num_compared:,}"
    return (name, "DIFFERS", share, f"{found.name}: {found.detail}")


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="sommelier-audit-") as made:
            yield Path(made)
        return
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name a new folder, for an audit begins anew")
    yield folder


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and whatever counts on OpenMP: then sums have one order."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
