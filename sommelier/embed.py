"""A catalog in, profiles, histories and every modality's vectors in the store out.

Only what is new is written: items are told apart by the hash of the content that an encoder sees,
the graph by the events it is trained on. An interrupted run keeps every finished batch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow.compute as pc

from embedders import registry
from embedders.base import Embedder
from embedders.graph_lightgcn import GraphConfig
from embedders.items import EPOCH, Modality, Reject
from embedders.known import Known
from embedders.registry import EncoderConfig
from embedders.vectors import Space
from feature_repo.base import Entity
from sommelier.engine import EmbeddingJob
from sommelier.registry import open_engine
from sommelier.state import digest
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace, events_key, space_facts

EVENT_COLUMNS = ["user_id", "item_id", "behavior", "weight", "timestamp"]
NAMED_REJECTS = 5


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of one modality's items."""

    modality: Modality
    encoder: str
    embedded: int = 0
    unchanged: int = 0
    rejects: list[Reject] = field(default_factory=list)
    space: Space | None = None
    """None where no item has such content."""


def embed(workspace: Workspace, *, watch: Watch, max_rejects: int | None = None) -> Summary:
    """Bring the store up to date with the catalog.

    Args:
        workspace: Whose.
        watch: Whoever watches.
        max_rejects: More rows set aside than this are an error, after all else is done.

    Raises:
        ValueError: the catalog or a brought file cannot be used, or too many rows were rejected.
    """
    catalog, store = workspace.catalog, workspace.store
    if any(_is_graph(config) for config in workspace.settings.encoders):
        assert workspace.timeline  # no use embedding for an hour to find no time of any event
    with watch.task("profiles and histories"):
        num_profiles = store.write_profiles(catalog.items())
        num_histories = store.write_history(catalog.interactions)
    notes: dict[str, str] = {}
    tallies = []
    for config in workspace.settings.encoders:
        if _is_graph(config):
            tally, notes["graph_key"] = _embed_graph(workspace, watch)
        else:
            tally = _embed_content(workspace, config, watch)
        tallies.append(tally)
    rejects = [*catalog.rejects, *(one for tally in tallies for one in tally.rejects)]
    known = set(store.rejects())
    store.write_rejects([one for one in rejects if one not in known])
    spaces = sorted(
        (tally.space for tally in tallies if tally.space), key=lambda one: str(one.modality)
    )
    workspace.state.write("embed", {"spaces": [space_facts(one) for one in spaces], **notes})
    if max_rejects is not None and len(rejects) > max_rejects:
        raise ValueError(
            f"{len(rejects)} rows were set aside, and --max-rejects allows {max_rejects}; all "
            f"others are embedded. {_listed(rejects)}"
        )
    return _summary(workspace, tallies, rejects, num_profiles, num_histories)


def _is_graph(config: EncoderConfig) -> bool:
    return (config.modality, config.encoder) == (Modality.GRAPH, "lightgcn")


def _embed_content(workspace: Workspace, config: EncoderConfig, watch: Watch) -> Tally:
    """One modality that is read off the items themselves."""
    name = config.name or config.encoder
    with watch.task(f"{config.modality} encoder {name}"):
        embedder = registry.create(config, catalog=workspace.catalog)
    tally = Tally(modality=config.modality, encoder=name)
    return _write_items(workspace, embedder, tally, watch)


def _embed_graph(workspace: Workspace, watch: Watch) -> tuple[Tally, str]:
    """The graph, trained again only where its events or its configuration changed."""
    config = GraphConfig(**asdict(workspace.settings.graph))
    until = workspace.timeline.graph_until
    key = graph_key(workspace)
    tally = Tally(modality=Modality.GRAPH, encoder="lightgcn")
    earlier = workspace.state.read("embed")
    if earlier.get("graph_key") == key:
        space = next(one for one in workspace.spaces() if one.modality is Modality.GRAPH)
        tally.unchanged = len(workspace.store.content_hashes(space))
        tally.space = space
        return tally, key
    with watch.task("graph lightgcn, epochs", total=config.epochs) as advance:
        embedder = registry.fit_graph(
            config,
            workspace.catalog.interactions,
            until,
            on_progress=lambda done, total, loss: advance(done, total, f"loss {loss:.3f}"),
        )
    users = embedder.users()
    known = workspace.store.content_hashes(users.space, entity=Entity.USER)
    if len(known) < len(users):
        workspace.store.write(
            users,
            content_hashes=[users.space.revision] * len(users),
            event_timestamps=[until] * len(users),
            entity=Entity.USER,
        )
    return _write_items(workspace, embedder, tally, watch), key


def graph_key(workspace: Workspace) -> str:
    """Changes when the graph has to be trained again."""
    until = workspace.timeline.graph_until
    events = workspace.catalog.interactions.select(EVENT_COLUMNS)
    before = events.filter(pc.less(events["timestamp"], until))
    return digest(events_key(before), workspace.settings.graph, until)


def _write_items(workspace: Workspace, embedder: Embedder, tally: Tally, watch: Watch) -> Tally:
    store, catalog = workspace.store, workspace.catalog
    now = datetime.now(UTC)
    config = next(
        one for one in workspace.settings.encoders if one.modality is embedder.space.modality
    )
    job = EmbeddingJob(
        encoder=config,
        space=embedder.space,
        folder=catalog.folder,
        brought=catalog.brought,
        store_root=store.root,
        store_profile=workspace.settings.store.profile,
        batch_rows=workspace.settings.embedding.batch_rows,
        now=now,
    )
    known = {
        item_id: Known(content_hash, EPOCH, now)
        for item_id, content_hash in store.content_hashes(embedder.space).items()
    }
    pairs = ((item, known.get(item.item_id)) for item in catalog.items())
    engine = open_engine(workspace.settings.embedding)
    with watch.task(f"{tally.modality} {tally.encoder}", total=catalog.num_items) as advance:
        for outcome in engine.run(job, embedder, pairs, on_progress=advance):
            tally.embedded += outcome.num_embedded
            tally.unchanged += outcome.num_unchanged
            tally.rejects += outcome.rejects
    if known or tally.embedded:
        tally.space = embedder.space
    return tally


def _summary(
    workspace: Workspace,
    tallies: Sequence[Tally],
    rejects: Sequence[Reject],
    num_profiles: int,
    num_histories: int,
) -> Summary:
    num_items = workspace.catalog.num_items
    notes = [
        f"{num_items:,} items, {workspace.catalog.interactions.num_rows:,} interactions; "
        f"{num_profiles:,} profiles and {num_histories:,} histories are new"
    ]
    if rejects:
        notes.append(f"{len(rejects):,} rows were set aside. {_listed(rejects)}")
    return Summary(
        title="Embedded",
        header=("modality", "encoder", "embedded", "unchanged", "rejected", "missing"),
        rows=tuple(_row(tally, num_items) for tally in tallies),
        notes=tuple(notes),
        is_new=bool(num_profiles or num_histories or any(one.embedded for one in tallies)),
    )


def _row(tally: Tally, num_items: int) -> tuple[str | int, ...]:
    num_rejected = len(tally.rejects)
    num_missing = num_items - tally.embedded - tally.unchanged - num_rejected
    return (
        tally.modality.value,
        tally.encoder,
        tally.embedded,
        tally.unchanged,
        num_rejected,
        num_missing,
    )


def _listed(rejects: Sequence[Reject]) -> str:
    named = "; ".join(f"{one.source} {one.key}: {one.reason}" for one in rejects[:NAMED_REJECTS])
    more = len(rejects) - NAMED_REJECTS
    return f"The first: {named}; and {more:,} more" if more > 0 else f"They are: {named}"
