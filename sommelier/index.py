"""A trained adapter and item vectors in, fused item tokens in the store and an index out."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedders.vectors import Space
from ranker.tokens import blocks
from ranker.tokens import fused_space as space_of_adapter
from retrieval.attributes import Attributes
from retrieval.base import UnusableIndex
from retrieval.build import build
from retrieval.build import load as load_index
from retrieval.concatenated import ItemVectors
from retrieval.manifest import Manifest
from retrieval.popularity import popularity
from sommelier.state import digest
from sommelier.training.train import Trained, trained
from sommelier.training.tune import moments
from sommelier.watch import Advance, Summary, Watch
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
    with watch.task("fused item tokens") as advance:
        num_fused = _write_tokens(workspace, ready.adapter, advance)
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
    space = space_of_adapter(ready.adapter)
    workspace.state.write("index", {"key": key, "fused_space": space_facts(space)})
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


def _write_tokens(workspace: Workspace, adapter: Path, advance: Advance) -> int:
    """Fuse and append the items whose vectors or adapter changed; how many.

    Written in blocks: whatever an interrupted run wrote is not fused again.
    """
    items, space = workspace.item_vectors, space_of_adapter(adapter)
    known = dict(workspace.store.known(space))  # with those that were taken away
    hashes = content_hashes(items, items.item_ids, adapter=adapter.name)
    rows = [
        row
        for row, item_id in enumerate(items.item_ids)
        if item_id not in known or known[item_id].content_hash != hashes[row]
    ]
    now, cut = datetime.now(UTC), workspace.timeline.cut
    num_written = 0
    for block in blocks(adapter, items, rows=rows):
        num_written += workspace.store.write(
            block,
            content_hashes=[hashes[items.row_of[one]] for one in block.item_ids],
            # True from the adapter's cut on; what changed or came back since then, from now on.
            event_timestamps=[now if one in known else cut for one in block.item_ids],
        )
        advance(num_written, len(rows))
    return num_written


def content_hashes(items: ItemVectors, item_ids: Sequence[str], *, adapter: str) -> list[str]:
    """Of what each item's tokens are made from: its modalities' vectors, and the adapter."""
    parts = [items.block(modality) for modality in items.modalities]
    hashes = []
    for one in item_ids:
        row = items.row_of[one]
        vectors = b"".join(block_ND[row].tobytes() for block_ND in parts)
        hashes.append(hashlib.sha256(adapter.encode() + vectors).hexdigest())
    return hashes


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
