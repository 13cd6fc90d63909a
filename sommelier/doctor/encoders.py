"""A workspace in, findings about every encoder and the rows it made out.

An encoder is asked again for the vectors of its probes, and every item for what the encoder would
see of it now; both are compared with what the store holds.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from embedders import registry
from embedders.base import BadContent, Embedder
from embedders.changed import looks_like_another_encoder
from embedders.items import EPOCH, Item
from embedders.known import DELETED, Known, joined
from embedders.probes import agree, cosines, probe
from embedders.registry import EncoderConfig
from feature_repo.base import Entity
from sommelier.doctor.finding import Finding, counted, of_error
from sommelier.doctor.repairs import ACCEPT_CHANGED, EMBED, REPAIR
from sommelier.embedding.graph import graph_key, held_space, is_trained
from sommelier.watch import Watch
from sommelier.workspace import Workspace

STEP = 256  # items between two words about the progress
GOOD = ("fresh", "imputed", "without content", "set aside")
"""What is as it should be, or a fact about the catalog."""
WRONG = ("stale", "missing", "made by former weights", "of content that is gone", "orphaned")


def examine(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """Each encoder of the settings: first whether it is still the same, then its rows."""
    for config in workspace.settings.encoders:
        what = f"{config.modality} vectors"
        try:
            if is_trained(config):
                yield _graph(workspace, what, watch)
                continue
            with watch.task(f"{config.modality} encoder"):
                embedder = registry.create(config, catalog=workspace.catalog)
            renew_before = None
            if not embedder.is_looked_up:
                found, renew_before = _probes(workspace, embedder)
                yield found
            yield _rows(workspace, embedder, config, renew_before, watch=watch)
        except Exception as error:  # the others are looked at as well
            yield of_error(what, error, repair=EMBED)


def _probes(workspace: Workspace, embedder: Embedder) -> tuple[Finding, datetime | None]:
    """Whether the encoder still makes the vectors of the probes, and since when."""
    what = f"{embedder.space.modality} encoder"
    try:
        stored = workspace.store.probes(embedder.space)
    except ValueError as error:
        return Finding(what=what, seen=str(error), repair=f"delete it, then {REPAIR}"), None
    if stored is None:
        return Finding(what=what, seen="no probes are kept of it", repair=EMBED), None
    now = probe(embedder)
    assert now is not None, "only looked-up vectors have no probes"
    if agree(stored, now):
        when = f"{stored.created:%Y-%m-%d %H:%M}" if stored.created > EPOCH else "its first row"
        since = f"the same since {when}"
        return Finding(what=what, seen=f"{embedder.space.space_id}, {since}"), stored.created
    seen = "takes other probes than before"
    if tuple(stored.item_ids) == tuple(now.item_ids):
        seen = f"makes other vectors of its probes, least cosine {cosines(stored, now).min():.4f}"
    return Finding(what=what, seen=f"{embedder.space.space_id} {seen}", repair=REPAIR), None


def _rows(
    workspace: Workspace,
    embedder: Embedder,
    config: EncoderConfig,
    renew_before: datetime | None,
    *,
    watch: Watch,
) -> Finding:
    """One modality's rows against what the encoder would see now."""
    space, store = embedder.space, workspace.store
    look = _Look(workspace, embedder, renew_before)
    counts: Counter[str] = Counter()
    pairs = joined(workspace.items_as_read(space), store.known(space))
    with watch.task(f"{config.modality} rows", total=workspace.catalog.num_items) as advance:
        for _, item, known in pairs:
            state = look(item, known)
            if state:
                counts[state] += 1
            if item is not None and (seen := counts.total()) % STEP == 0:
                advance(seen)
    repair = EMBED if any(counts[one] for one in WRONG) else ""
    if config.encoder == "brought" and looks_like_another_encoder(
        counts["stale"], counts["stale"] + counts["fresh"]
    ):
        repair = ACCEPT_CHANGED
    named = {one: counts[one] for one in (*GOOD, *WRONG)}
    return Finding(
        what=f"{config.modality} vectors",
        seen=counted(named) + _others(workspace, embedder),
        repair=repair,
        counts=named,
    )


class _Look:
    """Says of an item and the store's row of it what state they are in; None for nothing."""

    def __init__(
        self, workspace: Workspace, embedder: Embedder, renew_before: datetime | None
    ) -> None:
        store, space = workspace.store, embedder.space
        self._embedder = embedder
        self._renew_before = renew_before
        self._bad = {one.key for one in store.rejects() if one.source == space.space_id}
        self._imputed = store.imputed(space)

    def __call__(self, item: Item | None, known: Known | None) -> str | None:
        held = None if known is None or known.content_hash == DELETED else known
        if item is None:
            return "orphaned" if held else None
        if held and item.item_id in self._imputed:
            return "imputed"
        try:
            content = self._embedder.fingerprint(item)
            if content is not None and held is None and item.item_id in self._bad:
                self._embedder.load(item)  # set aside before; mended since?
        except BadContent:
            return "set aside"
        if content is None:
            return "of content that is gone" if held else "without content"
        if held is None:
            return "missing"
        if held.content_hash != content:
            return "stale"
        return "fresh" if held.is_current(content, self._renew_before) else WRONG[2]


def _others(workspace: Workspace, embedder: Embedder) -> str:
    """Which other spaces of the modality hold rows where this one holds none."""
    held, space = workspace.store.spaces(), embedder.space
    if (Entity.ITEM, space.space_id) in held:
        return ""
    others = sorted(
        one.space_id
        for (entity, _), one in held.items()
        if entity is Entity.ITEM and one.modality is space.modality
    )
    return f"; the store holds rows of {', '.join(others)} only" if others else ""


def _graph(workspace: Workspace, what: str, watch: Watch) -> Finding:
    """The graph's rows: all of one training, or stale."""
    space = held_space(workspace, graph_key(workspace))
    if space is None:
        seen = "not trained on these events with these settings"
        return Finding(what=what, seen=seen, repair=EMBED)
    imputed = workspace.store.imputed(space)
    counts: Counter[str] = Counter()
    pairs = joined(workspace.catalog.items(), workspace.store.known(space))
    with watch.task("graph rows"):
        for item_id, item, known in pairs:
            is_held = known is not None and known.content_hash != DELETED
            if item is None:
                counts["orphaned"] += is_held
            elif not is_held:
                counts["without vector"] += 1
            else:
                counts["imputed" if item_id in imputed else "fresh"] += 1
    names = ("fresh", "imputed", "without vector", "orphaned")
    named = {one: counts[one] for one in names}
    repair = EMBED if counts["orphaned"] else ""
    return Finding(what=what, seen=counted(named), repair=repair, counts=named)
