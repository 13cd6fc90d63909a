"""An index and an adapter in, one immutable generation that servers load out."""

from embedders.vectors import Space
from ranker.generation import Generation, GenerationError, Generations
from retrieval.build import load as load_index
from sommelier.index import fused_space
from sommelier.train import trained
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace


def generations(workspace: Workspace) -> Generations:
    """All that were published."""
    return Generations(workspace.settings.paths.generations)


def releases(workspace: Workspace) -> dict[str, tuple[Space, ...]]:
    """The spaces that each generation reads, by its id; without what can serve no longer.

    That is a generation whose manifest is damaged, or one of whose spaces the store dropped.
    """
    every = generations(workspace)
    held = {space_id for _, space_id in workspace.store.spaces()}
    found = {}
    for generation_id in every.ids():
        try:
            generation = every.read(generation_id)
        except GenerationError:
            continue
        spaces = generation.stored_spaces
        if held.issuperset(space.space_id for space in spaces):
            found[generation_id] = spaces
    return found


def publish(workspace: Workspace, *, watch: Watch) -> Summary:
    """Publish what was trained and indexed; the same content again stays the same generation.

    Raises:
        ValueError: nothing was indexed yet, or the index is damaged.
    """
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
        )
    with watch.task("feature services of the releases"):
        workspace.store.apply(releases=releases(workspace))
    workspace.state.write("publish", {"generation_id": generation.generation_id})
    return _summary(generation, is_new=generation.generation_id != before)


def point(workspace: Workspace, generation_id: str) -> Summary:
    """Serve an earlier generation again."""
    every = generations(workspace)
    every.point(generation_id)
    workspace.state.write("publish", {"generation_id": generation_id})
    return _summary(every.current(), is_new=True)


def _summary(generation: Generation, *, is_new: bool) -> Summary:
    return Summary(
        title="Published" if is_new else "Published before: nothing is new",
        header=("what", ""),
        rows=(
            ("generation", generation.generation_id),
            ("as of", generation.as_of.isoformat()),
            ("LLM", generation.llm),
            ("spaces", ", ".join(space.space_id for space in generation.spaces)),
        ),
        is_new=is_new,
    )
