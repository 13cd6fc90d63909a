"""An index and an adapter in, one immutable generation that servers load out; and back again.

A generation is loaded and asked a few questions before CURRENT points at it: what cannot answer is
never published. Rolling back points at an earlier one, which is compared with its manifest first.
Servers follow CURRENT by themselves (`ranker.service.following`).
"""

from pathlib import Path

from embedders.texts import TextSource
from embedders.vectors import Space
from feature_repo.releases import origin_id
from ranker.adapter_facts import read_facts
from ranker.generation import Generation, GenerationError, Generations
from retrieval.build import load as load_index
from sommelier.index import fused_space
from sommelier.training.train import trained
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace


def generations(workspace: Workspace) -> Generations:
    """All that were published."""
    return Generations(workspace.settings.paths.generations)


def releases(workspace: Workspace) -> dict[str, tuple[Space | TextSource, ...]]:
    """The spaces and text sources that each generation reads, by its id.

    Without what can serve no longer: a generation whose manifest is damaged, or one of whose
    spaces or sources the store dropped.
    """
    every = generations(workspace)
    held = {view.origin_id for view in workspace.store.views()}
    found = {}
    for generation_id in every.ids():
        try:
            generation = every.read(generation_id)
        except GenerationError:
            continue
        if held.issuperset(map(origin_id, generation.stored)):
            found[generation_id] = generation.stored
    return found


def publish(workspace: Workspace, *, watch: Watch) -> Summary:
    """Publish what was trained and indexed; the same content again stays the same generation.

    Raises:
        ValueError: nothing was indexed yet, or the index is damaged.
    """
    from ranker.loaded import prove  # with all that answers requests

    ready, space = trained(workspace), fused_space(workspace)
    manifest = load_index(workspace.settings.paths.index).manifest
    assert manifest.as_of is not None  # `index` always states its cut
    before = workspace.state.read("publish").get("generation_id")
    with watch.task("generation"):
        generation = generations(workspace).publish(
            index=workspace.settings.paths.index,
            adapter=ready.adapter,
            llm=ready.llm,
            spaces=manifest.spaces,
            fused_space=space,
            as_of=manifest.as_of,
            texts=read_facts(ready.adapter).texts,
            holds_llm=_is_own(workspace, ready.llm),
            prove=lambda made: prove(made, store=workspace.store),
        )
    with watch.task("feature services of the releases"):
        workspace.store.apply(releases=releases(workspace))
    workspace.state.write("publish", {"generation_id": generation.generation_id})
    return _summary(generation, is_new=generation.generation_id != before)


def point(workspace: Workspace, generation_id: str) -> Summary:
    """Serve an earlier generation again.

    Raises:
        ValueError: there is no such one, a file of it is missing or changed, or the store dropped
            what it reads. What is served stays.
    """
    every = generations(workspace)
    every.read(generation_id).check()
    if generation_id not in releases(workspace):
        raise GenerationError(
            f"generation {generation_id} reads vectors or texts that the store dropped: point "
            f"to another one, or run `sommelier embed`, `index` and `publish`"
        )
    is_new = _current_id(every) != generation_id
    every.point(generation_id)
    workspace.state.write("publish", {"generation_id": generation_id})
    return _summary(every.current(), is_new=is_new)


def roll_back(workspace: Workspace, generation_id: str | None = None) -> Summary:
    """Serve an earlier generation again; None for the one before the current one.

    Raises:
        ValueError: there is none before it, or it cannot serve any more.
    """
    every = generations(workspace)
    if generation_id is None:
        current = every.current_id()
        before = [one for one in every.ids() if one < current]
        if not before:
            raise GenerationError(f"there is no generation before {current} to roll back to")
        generation_id = before[-1]
    return point(workspace, generation_id)


def overview(workspace: Workspace) -> Summary:
    """All that were published, oldest first, and whether they could serve now."""
    every = generations(workspace)
    current, usable = _current_id(every), releases(workspace)
    rows = []
    for generation_id in every.ids():
        fault = "" if generation_id in usable else "the store dropped what it reads"
        try:
            generation = every.read(generation_id)
            generation.check()
        except GenerationError as error:
            rows.append((_marked(generation_id, current), "", "", "", f"damaged: {error}"))
            continue
        rows.append(
            (
                _marked(generation_id, current),
                generation.created_at.isoformat(timespec="seconds"),
                generation.as_of.isoformat(timespec="seconds"),
                generation.llm or "its own",
                fault or "ready",
            )
        )
    return Summary(
        title="Generations" if rows else "Nothing is published",
        header=("generation", "published", "as of", "LLM", "state"),
        rows=tuple(rows),
        notes=("* is served; `sommelier rollback` serves an earlier one again",) if rows else (),
    )


def _marked(generation_id: str, current: str) -> str:
    return f"{generation_id} *" if generation_id == current else generation_id


def _current_id(every: Generations) -> str:
    """What CURRENT says; empty where it says nothing."""
    try:
        return every.current_id()
    except GenerationError:
        return ""


def _is_own(workspace: Workspace, llm: str) -> bool:
    """Whether the LLM is a folder of the workspace, and not one that others keep."""
    paths, folder = workspace.settings.paths, Path(llm)
    return folder.is_dir() and any(
        folder.is_relative_to(own) for own in (paths.workspace, paths.models)
    )


def _summary(generation: Generation, *, is_new: bool) -> Summary:
    return Summary(
        title="Published" if is_new else "Published before: nothing is new",
        header=("what", ""),
        rows=(
            ("generation", generation.generation_id),
            ("as of", generation.as_of.isoformat()),
            ("LLM", generation.llm or "its own"),
            ("spaces", ", ".join(space.space_id for space in generation.spaces)),
        ),
        is_new=is_new,
    )
