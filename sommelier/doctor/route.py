"""A workspace in, findings about what was made of its vectors out: adapter, index, generation.

They name the spaces they speak; here these names are compared with each other, and with what the
store holds for every item that is served.
"""

from collections.abc import Iterator

from embedders.known import DELETED
from embedders.vectors import Space
from ranker.tokens import fused_space as space_of_adapter
from retrieval.build import load as load_index
from sommelier.doctor.finding import Finding
from sommelier.doctor.repairs import INDEX, PUBLISH, TRAIN
from sommelier.index import fused_space, index_key
from sommelier.publish import generations
from sommelier.training.train import trained, training_key
from sommelier.watch import Watch
from sommelier.workspace import Workspace


def examine_adapter(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """Whether the adapter is of these vectors, events and settings."""
    with watch.task("the adapter"):
        ready = trained(workspace)
        is_fresh = workspace.state.read("train").get("key") == training_key(workspace)
    yield Finding(
        what="adapter",
        seen=f"{ready.adapter.name}, {'fresh' if is_fresh else 'made from other vectors, events '}"
        f"{'' if is_fresh else 'or settings'}",
        repair="" if is_fresh else TRAIN,
    )


def examine_index(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """Whether the index is of these vectors, and the tokens of this adapter."""
    with watch.task("the index"):
        ready = trained(workspace)
        retrieval = load_index(
            workspace.settings.paths.index, expected_spaces=workspace.item_vectors.spaces
        )
        is_fresh = workspace.state.read("index").get("key") == index_key(workspace, ready)
    yield Finding(
        what="index",
        seen=f"{retrieval.manifest.num_indexed:,} items, "
        f"{'fresh' if is_fresh else 'made from other vectors or settings'}",
        repair="" if is_fresh else INDEX,
    )
    tokens = fused_space(workspace)
    is_same = tokens == space_of_adapter(ready.adapter)
    absent = _without(workspace, retrieval.item_vectors.item_ids, tokens)
    counts = {"items": len(retrieval.item_vectors.item_ids), "without tokens": absent}
    yield Finding(
        what="fused tokens",
        seen=f"{tokens.space_id}, of {'this' if is_same else 'another'} adapter, "
        f"{absent:,} items have none",
        repair="" if is_same and not absent else INDEX,
        counts=counts,
    )


def examine_generation(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """Whether what is served is intact, of these spaces, and complete in the store."""
    with watch.task("the generation"):
        generation = generations(workspace).current()
        generation.check()
        retrieval = load_index(generation.index, expected_spaces=generation.spaces)
    expected = {space.space_id for space in workspace.item_vectors.spaces}
    served = {space.space_id for space in generation.spaces} - {generation.fused_space.space_id}
    is_same = served == expected and generation.fused_space == fused_space(workspace)
    yield Finding(
        what="generation",
        seen=f"{generation.generation_id} as of {generation.as_of.isoformat()}, of "
        f"{'the same spaces' if is_same else 'other spaces than the workspace'}",
        repair="" if is_same else PUBLISH,
    )
    item_ids = retrieval.item_vectors.item_ids
    titled = set(workspace.store.profile_ids())
    counts = {
        "items": len(item_ids),
        "without a title": sum(one not in titled for one in item_ids),
        "without tokens": _without(workspace, item_ids, generation.fused_space),
    }
    is_complete = not (counts["without a title"] or counts["without tokens"])
    yield Finding(
        what="items served",
        seen=", ".join(f"{count:,} {what}" for what, count in counts.items()),
        repair="" if is_complete else f"{INDEX}, then {PUBLISH}",
        counts=counts,
    )


def _without(workspace: Workspace, item_ids: tuple[str, ...], space: Space) -> int:
    """How many of the items have no live row in the space."""
    wanted = set(item_ids)
    for item_id, known in workspace.store.known(space):
        if known.content_hash != DELETED:
            wanted.discard(item_id)
    return len(wanted)
