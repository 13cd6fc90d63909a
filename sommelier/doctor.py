"""A workspace in, everything that is wrong with it out, each with the command that repairs it.

Nothing is changed. Content that is missing, and rows that were set aside, are facts about the
catalog and no faults; what is stale, damaged or out of step is.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from embedders import registry
from embedders.base import BadContent, Embedder
from embedders.items import Modality
from embedders.vectors import Space
from feature_repo.base import StoreError
from feature_repo.tables import all_views
from retrieval.build import load as load_index
from sommelier.graph import graph_key
from sommelier.index import fused_space, index_key
from sommelier.publish import generations
from sommelier.train import trained, training_key
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace

EMBED, MATERIALIZE = "sommelier embed", "sommelier materialize"
TRAIN, INDEX, PUBLISH = "sommelier train", "sommelier index", "sommelier publish"
ROWS = ("fresh", "stale", "not embedded", "without content", "set aside", "of items that are gone")
SAMPLE = 2000  # ids of each view that are looked up online


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    seen: str
    repair: str = ""
    """The command that mends it; empty where all is well."""


def examine(workspace: Workspace, *, watch: Watch) -> tuple[Finding, ...]:
    """Every finding, in the order of the route; the first fault often explains the later ones."""
    findings: list[Finding] = []
    with watch.task("the workspace") as advance:
        for place, (what, check, repair) in enumerate(CHECKS, start=1):
            try:
                findings += check(workspace)
            except (ValueError, OSError, ImportError) as error:
                findings.append(Finding(what=what, seen=str(error), repair=repair))
            advance(place, len(CHECKS))
    return tuple(findings)


def summary(findings: tuple[Finding, ...]) -> Summary:
    """The findings as a table."""
    faults = [one for one in findings if one.repair]
    return Summary(
        title=f"{len(faults)} of {len(findings)} findings need repair" if faults else "All is well",
        header=("", "what", "found", "repair"),
        rows=tuple(
            ("✗" if one.repair else "✓", one.what, one.seen, one.repair) for one in findings
        ),
    )


def _catalog(workspace: Workspace) -> Iterator[Finding]:
    catalog = workspace.catalog
    seen = f"{catalog.num_items:,} items, {catalog.interactions.num_rows:,} interactions"
    if catalog.rejects:
        seen += f", {len(catalog.rejects):,} rows set aside"
    yield Finding(what="catalog", seen=seen)
    num_stored = len(workspace.store.profiles())
    missing = len(set(workspace.item_ids) - workspace.titles.keys())
    yield Finding(
        what="profiles",
        seen=f"{num_stored:,} in the store, {missing:,} missing",
        repair=EMBED if missing else "",
    )


def _modalities(workspace: Workspace) -> Iterator[Finding]:
    spaces = {space.modality: space for space in workspace.spaces()}
    for config in workspace.settings.encoders:
        space = spaces.get(config.modality)
        if (config.modality, config.encoder) == (Modality.GRAPH, "lightgcn"):
            is_fresh = workspace.state.read("embed").get("graph_key") == graph_key(workspace)
            held = workspace.store.content_hashes(space) if space else {}
            yield Finding(
                what="graph vectors",
                seen=f"{len(held):,} items, {'fresh' if is_fresh else 'stale'}",
                repair="" if is_fresh else EMBED,
            )
            continue
        yield _content(workspace, registry.create(config, catalog=workspace.catalog), config)


def _content(workspace: Workspace, embedder: Embedder, config: registry.EncoderConfig) -> Finding:
    """One modality's rows against what the encoder would see now."""
    known = workspace.store.content_hashes(embedder.space)
    source = embedder.space.space_id
    bad = {one.key for one in workspace.store.rejects() if one.source == source}
    counts: Counter[str] = Counter()
    for item in workspace.catalog.items():
        held = known.pop(item.item_id, None)
        try:
            content = embedder.fingerprint(item)
            if content is not None and held is None and item.item_id in bad:
                embedder.load(item)  # set aside before; mended since?
        except BadContent:
            counts["set aside"] += 1
            continue
        if content is None:
            counts["without content"] += 1
        elif held is None:
            counts["not embedded"] += 1
        else:
            counts["fresh" if held == content else "stale"] += 1
    counts["of items that are gone"] = len(known)
    return Finding(
        what=f"{config.modality} vectors",
        seen=", ".join(f"{counts[one]:,} {one}" for one in ROWS),
        repair=EMBED if counts["stale"] or counts["not embedded"] else "",
    )


def _views(workspace: Workspace) -> Iterator[Finding]:
    store = workspace.store
    spaces = store.spaces()
    current = {space.space_id for space in workspace.spaces()}
    if facts := workspace.state.read("index"):
        current.add(Space(**facts["fused_space"]).space_id)
    for view in all_views(spaces):
        if view.space is not None and view.space.space_id not in current:
            continue  # of an encoder or an adapter that is no longer in use
        ids = _ids(workspace, view.name)
        try:
            rows = store.feature_store.read_online(view.name, ids)
        except StoreError as error:
            yield Finding(what=f"view {view.name}", seen=str(error), repair=MATERIALIZE)
            continue
        missing = sum(row is None for row in rows)
        yield Finding(
            what=f"view {view.name}",
            seen=f"{len(ids):,} looked up online, {missing:,} missing",
            repair=MATERIALIZE if missing else "",
        )


def _ids(workspace: Workspace, view_name: str) -> list[str]:
    """Some ids that the view holds, spread over all of them."""
    store = workspace.store
    for (entity, _), space in store.spaces().items():
        if view_name == f"{entity}_{space.space_id}":
            found = sorted(store.content_hashes(space, entity=entity))
            break
    else:
        if view_name == "item_profile":
            found = sorted(store.profiles())
        else:
            found = sorted(set(workspace.catalog.interactions["user_id"].to_pylist()))
    step = max(1, len(found) // SAMPLE)
    return found[::step]


def _training(workspace: Workspace) -> Iterator[Finding]:
    ready = trained(workspace)
    is_fresh = workspace.state.read("train").get("key") == training_key(workspace)
    yield Finding(
        what="adapter",
        seen=f"{ready.adapter.name}, {'fresh' if is_fresh else 'made from other vectors, events '}"
        f"{'' if is_fresh else 'or settings'}",
        repair="" if is_fresh else TRAIN,
    )


def _index(workspace: Workspace) -> Iterator[Finding]:
    retrieval = load_index(
        workspace.settings.paths.index, expected_spaces=workspace.item_vectors.spaces
    )
    is_fresh = workspace.state.read("index").get("key") == index_key(workspace, trained(workspace))
    yield Finding(
        what="index",
        seen=f"{retrieval.manifest.num_indexed:,} items, "
        f"{'fresh' if is_fresh else 'made from other vectors or settings'}",
        repair="" if is_fresh else INDEX,
    )


def _generation(workspace: Workspace) -> Iterator[Finding]:
    generation = generations(workspace).current()
    load_index(generation.index)
    expected = {space.space_id for space in workspace.item_vectors.spaces}
    served = {space.space_id for space in generation.spaces} - {generation.fused_space.space_id}
    is_same = served == expected and generation.fused_space == fused_space(workspace)
    yield Finding(
        what="generation",
        seen=f"{generation.generation_id} as of {generation.as_of.isoformat()}, of "
        f"{'the same spaces' if is_same else 'other spaces than the workspace'}",
        repair="" if is_same else PUBLISH,
    )


Check = Callable[[Workspace], Iterator[Finding]]

CHECKS: tuple[tuple[str, Check, str], ...] = (
    ("catalog", _catalog, "mend the catalog, then sommelier embed"),
    ("vectors", _modalities, EMBED),
    ("views", _views, MATERIALIZE),
    ("adapter", _training, TRAIN),
    ("index", _index, INDEX),
    ("generation", _generation, PUBLISH),
)
