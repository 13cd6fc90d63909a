"""A catalog in, profiles, histories and every modality's vectors in the store out.

Only what is new is written: items are told apart by the hash of the content that an encoder sees,
the graph by the events it is trained on. What is gone from the catalog is taken away. A batch is
durable as soon as it is made, so an interrupted run goes on where it was.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from embedders import registry
from embedders.items import Modality
from embedders.registry import EncoderConfig
from embedders.vectors import Space
from sommelier.embedding import graph
from sommelier.embedding.encoding import Consent, Tally, bring_up_to_date
from sommelier.embedding.gone import gone
from sommelier.embedding.imputing import impute_graph
from sommelier.ordered_catalog import keep_one_clock
from sommelier.set_aside import SetAside
from sommelier.small_parts import merge_parts
from sommelier.watch import Summary, Watch
from sommelier.workspace import SUMMARIZE_FIRST, Workspace, space_facts


def embed(
    workspace: Workspace,
    *,
    watch: Watch,
    max_rejects: int | None = None,
    consent: Consent | None = None,
) -> Summary:
    """Bring the store up to date with the catalog.

    Args:
        workspace: Whose.
        watch: Whoever watches.
        max_rejects: More rows set aside than this end the run at once.
        consent: What the user agreed to beforehand; None for nothing.

    Raises:
        ValueError: the catalog or a brought file cannot be used, too many rows were rejected or
            are gone, an encoder reads summaries and none are written, or one no longer makes the
            vectors that the store holds.
    """
    consent = consent or Consent()
    if any(graph.is_trained(config) for config in workspace.settings.encoders):
        assert workspace.timeline  # no use embedding for an hour to find no time of any event
    _check_summaries(workspace)
    keep_one_clock(workspace.state, workspace.settings.time, workspace.catalog.interactions)
    missing = gone(workspace.catalog, workspace.store)
    if not consent.deletions:
        missing.refuse_many(max_share=workspace.settings.embedding.max_deleted_share)
    set_aside = SetAside(workspace.store, limit=max_rejects)
    set_aside.add(workspace.catalog.rejects)
    facts, is_new = _write_tables(workspace, missing.item_ids, watch)
    tallies, graph_key = _run_encoders(workspace, consent, set_aside, watch)
    spaces = sorted(
        (tally.space for tally in tallies if tally.space), key=lambda one: str(one.modality)
    )
    if graph_key:
        imputed = _impute(workspace, spaces, watch)
        facts += imputed
        is_new |= bool(imputed)
    notes = {"graph_key": graph_key} if graph_key else {}
    workspace.state.write("embed", {"spaces": [space_facts(one) for one in spaces], **notes})
    graph.forget(workspace)
    merge_parts(workspace.store, watch)
    is_new |= any(tally.embedded or tally.lost for tally in tallies)
    return _summary(workspace.catalog.num_items, tallies, facts, set_aside, is_new=is_new)


def _check_summaries(workspace: Workspace) -> None:
    for config in workspace.settings.encoders:
        if config.reads_summaries and workspace.summary_source is None:
            raise ValueError(
                f"the summary encoder {config.encoder!r} reads what a model wrote of the items, "
                f"and nothing is written: {SUMMARIZE_FIRST}"
            )


def _write_tables(
    workspace: Workspace, missing_ids: list[str], watch: Watch
) -> tuple[list[str], bool]:
    """Everything but vectors: what was done in words, and whether anything was."""
    catalog, store = workspace.catalog, workspace.store
    with watch.task("profiles and histories"):
        num_profiles = store.write_profiles(catalog.items())
        num_histories = store.write_history(catalog.interactions)
    facts = [
        f"{catalog.num_items:,} items, {catalog.interactions.num_rows:,} interactions; "
        f"{num_profiles:,} profiles and {num_histories:,} histories are new"
    ]
    if missing_ids:
        store.delete(missing_ids, at=datetime.now(UTC))
        facts.append(f"{len(missing_ids):,} items are gone from the catalog: taken away")
    return facts, bool(num_profiles or num_histories or missing_ids)


def _run_encoders(
    workspace: Workspace, consent: Consent, set_aside: SetAside, watch: Watch
) -> tuple[list[Tally], str]:
    """What every encoder did, and the key of the graph; empty where there is none."""
    tallies: list[Tally] = []
    graph_key = ""
    for config in workspace.settings.encoders:
        if graph.is_trained(config):
            tally, graph_key = _embed_graph(workspace, config, consent, set_aside, watch)
        else:
            tally = _embed_content(workspace, config, consent, set_aside, watch)
        tallies.append(tally)
    return tallies, graph_key


def _impute(workspace: Workspace, spaces: Sequence[Space], watch: Watch) -> list[str]:
    graphs = [one for one in spaces if one.modality is Modality.GRAPH]
    content = [one for one in spaces if one.modality is not Modality.GRAPH]
    num_imputed = sum(impute_graph(workspace, one, content, watch=watch) for one in graphs)
    if not num_imputed:
        return []
    return [f"{num_imputed:,} items without interactions got a graph vector from similar ones"]


def _embed_content(
    workspace: Workspace,
    config: EncoderConfig,
    consent: Consent,
    set_aside: SetAside,
    watch: Watch,
) -> Tally:
    """One modality that is read off the items themselves."""
    with watch.task(f"{config.modality} encoder {config.name or config.encoder}"):
        embedder = registry.create(config, catalog=workspace.catalog)
    return bring_up_to_date(
        workspace, config, embedder, consent=consent, set_aside=set_aside, watch=watch
    )


def _embed_graph(
    workspace: Workspace,
    config: EncoderConfig,
    consent: Consent,
    set_aside: SetAside,
    watch: Watch,
) -> tuple[Tally, str]:
    """The graph, trained again only where its events or its configuration changed."""
    key = graph.graph_key(workspace)
    if space := graph.held_space(workspace, key):
        tally = Tally(modality=Modality.GRAPH, encoder=config.encoder, space=space)
        tally.unchanged = graph.num_items(workspace.store, space)
        return tally, key
    embedder = graph.trained(workspace, key, watch=watch)
    graph.write_users(workspace, embedder)
    tally = bring_up_to_date(
        workspace, config, embedder, consent=consent, set_aside=set_aside, watch=watch
    )
    return tally, key


def _summary(
    num_items: int,
    tallies: Sequence[Tally],
    facts: Sequence[str],
    set_aside: SetAside,
    *,
    is_new: bool,
) -> Summary:
    notes = list(facts)
    notes += [
        f"{one.lost:,} {one.modality} vectors were taken away: their items show none any more"
        for one in tallies
        if one.lost
    ]
    if set_aside.num:
        notes.append(f"{set_aside.num:,} rows were set aside. {set_aside.listed()}")
    return Summary(
        title="Embedded",
        header=("modality", "encoder", "embedded", "unchanged", "rejected", "missing"),
        rows=tuple(_row(tally, num_items) for tally in tallies),
        notes=tuple(notes),
        is_new=is_new,
    )


def _row(tally: Tally, num_items: int) -> tuple[str | int, ...]:
    num_missing = num_items - tally.embedded - tally.unchanged - tally.rejected
    return (
        tally.modality.value,
        tally.encoder,
        tally.embedded,
        tally.unchanged,
        tally.rejected,
        num_missing,
    )
