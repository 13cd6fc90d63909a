"""A trained adapter and item vectors in, fused item tokens in the store and an index out."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from embedders.vectors import Embeddings, Space
from ranker.tokens import fuse
from retrieval.attributes import Attributes
from retrieval.base import UnusableIndex
from retrieval.build import build
from retrieval.build import load as load_index
from retrieval.concatenated import ItemVectors
from retrieval.manifest import Manifest
from retrieval.popularity import popularity
from sommelier.state import digest
from sommelier.train import Trained, trained
from sommelier.tune import moments
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace, space_facts

INDEX_FIRST = "run `sommelier index`"


def index(workspace: Workspace, *, watch: Watch) -> Summary:
    """Fuse every item's vectors into the ranker's tokens, and build the index.

    Raises:
        ValueError: nothing was trained yet.
    """
    ready = trained(workspace)
    key = index_key(workspace, ready)
    facts = workspace.state.read("index")
    if facts.get("key") == key and (manifest := _intact(workspace)) and _has_tokens(workspace):
        return _summary(workspace, manifest, num_fused=0, is_new=False)
    with watch.task("fused item tokens"):
        tokens = fuse(ready.adapter, workspace.item_vectors)
        num_fused = _write_tokens(workspace, tokens, ready)
    with watch.task("fused item tokens online"):
        workspace.store.apply()
        workspace.store.materialize(datetime.now(UTC))
    with watch.task("index"):
        manifest = build(
            workspace.item_vectors,
            folder=workspace.settings.paths.index,
            config=workspace.settings.index,
            pooling=ready.pooling,
            popularity=popularity(workspace.catalog.interactions, until=workspace.timeline.cut),
            user_vectors=workspace.user_vectors,
            as_of=workspace.timeline.cut,
            attributes=Attributes.of(
                workspace.catalog.items(), workspace.settings.index.attributes or None
            ),
            sequence=workspace.sequence,
            fusion=ready.fusion,
            queries=moments(workspace)[0],
        )
    workspace.state.write("index", {"key": key, "fused_space": space_facts(tokens.space)})
    return _summary(workspace, manifest, num_fused=num_fused, is_new=True)


def index_key(workspace: Workspace, ready: Trained) -> str:
    """Changes when the index has to be built again."""
    counts = popularity(workspace.catalog.interactions, until=workspace.timeline.cut)
    return digest(
        workspace.vectors_key,
        ready.adapter.name,
        ready.pooling,
        ready.fusion,
        _attributes_key(workspace),
        workspace.settings.index,
        workspace.timeline.cut,
        counts,
    )


def _attributes_key(workspace: Workspace) -> str:
    """Changes when any item's attributes do."""
    return digest(
        [
            (item.item_id, item.category, sorted(item.attributes.items()))
            for item in workspace.catalog.items()
        ]
    )


def fused_space(workspace: Workspace) -> Space:
    """The space of the tokens that `index` wrote.

    Raises:
        ValueError: it has not run yet.
    """
    facts: dict[str, Any] | None = workspace.state.read("index").get("fused_space")
    if facts is None:
        raise ValueError(f"no item is fused yet: {INDEX_FIRST}")
    return Space(**facts)


def _intact(workspace: Workspace) -> Manifest | None:
    try:
        return load_index(workspace.settings.paths.index).manifest
    except UnusableIndex:  # built again, then
        return None


def _has_tokens(workspace: Workspace) -> bool:
    """Whether the store still holds every item's tokens."""
    held = workspace.store.content_hashes(fused_space(workspace))
    return held.keys() >= set(workspace.item_vectors.item_ids)


def _write_tokens(workspace: Workspace, tokens: Embeddings, ready: Trained) -> int:
    """Append the tokens whose item or adapter changed; how many."""
    known = dict(workspace.store.known(tokens.space))  # with those that were taken away
    hashes = content_hashes(workspace.item_vectors, tokens.item_ids, adapter=ready.adapter.name)
    rows = [
        row
        for row, item_id in enumerate(tokens.item_ids)
        if item_id not in known or known[item_id].content_hash != hashes[row]
    ]
    if not rows:
        return 0
    now, cut = datetime.now(UTC), workspace.timeline.cut
    return workspace.store.write(
        Embeddings(
            space=tokens.space,
            item_ids=[tokens.item_ids[row] for row in rows],
            vectors_ND=tokens.vectors_ND[rows],
        ),
        content_hashes=[hashes[row] for row in rows],
        # True from the adapter's cut on; what changed or came back since then, from now on.
        event_timestamps=[now if tokens.item_ids[row] in known else cut for row in rows],
    )


def content_hashes(items: ItemVectors, item_ids: Sequence[str], *, adapter: str) -> list[str]:
    """Of what each item's tokens are made from: its vectors, and the adapter."""
    return [
        hashlib.sha256(adapter.encode() + items.vectors_ND[items.row_of[one]].tobytes()).hexdigest()
        for one in item_ids
    ]


def _summary(workspace: Workspace, manifest: Manifest, *, num_fused: int, is_new: bool) -> Summary:
    return Summary(
        title="Indexed" if is_new else "Indexed before: nothing is new",
        header=("what", ""),
        rows=(
            ("items", f"{manifest.num_items:,}"),
            ("of them indexed", f"{manifest.num_indexed:,}"),
            ("users with a graph vector", f"{manifest.num_users:,}"),
            ("tokens newly fused", f"{num_fused:,}"),
            ("dimensions", f"{manifest.dim:,}"),
            ("kind of index", f"{manifest.kind}: {' '.join(manifest.reasons)}"),
            ("effort", f"{manifest.effort:,}" if manifest.effort else "exact"),
            ("recall against the exact order", f"{manifest.recall_against_exact:.4f}"),
            ("recall, ms at the median, by effort", _curve(manifest)),
            *((("warning", manifest.warning),) if manifest.warning else ()),
            ("folder", str(workspace.settings.paths.index)),
        ),
        is_new=is_new,
    )


def _curve(manifest: Manifest) -> str:
    return ", ".join(
        f"{one.effort or 'exact'}: {one.recall:.4f}, {one.p50_ms:.2f}" for one in manifest.curve
    )
