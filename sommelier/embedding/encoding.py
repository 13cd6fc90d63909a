"""One embedder and the catalog in, its space in the store brought up to date out.

Before anything is written, the embedder proves that it speaks the space it names: by its probes,
or, for vectors that were brought, by how many of them differ from what the store knows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from embedders.base import Embedder
from embedders.changed import changed_share, looks_like_another_encoder
from embedders.items import EPOCH, Item, Modality
from embedders.known import Known, joined
from embedders.probes import LEAST_COSINE, Probes, agree, cosines, probe
from embedders.registry import EncoderConfig
from embedders.vectors import Embeddings, Space
from feature_repo.base import Entity
from feature_repo.store import Store
from sommelier.embedding.engine import EmbeddingJob, Engine
from sommelier.embedding.engine_local import LocalEngine
from sommelier.embedding.gone import Gone
from sommelier.embedding.registry import open_engine
from sommelier.set_aside import SetAside
from sommelier.watch import Watch
from sommelier.workspace import Workspace


class OtherVectors(ValueError):
    """An embedder that no longer makes the vectors of the space that it names."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of one modality's items."""

    modality: Modality
    encoder: str
    embedded: int = 0
    unchanged: int = 0
    rejected: int = 0
    lost: int = 0
    """Items whose vector was taken away, as they show no such content any more."""
    space: Space | None = None
    """None where no item has such content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the user agreed to beforehand."""

    repairs: bool = False
    """An encoder that makes other vectors than before may make all of them again."""
    deletions: bool = False
    """Any number of items may be taken away."""
    changed: bool = False
    """Any number of brought vectors may differ from those of before."""


def pairs(workspace: Workspace, space: Space) -> Iterator[tuple[Item, Known | None]]:
    """Every item of the catalog with the store's latest row of it, as a stream ordered by id."""
    for _, item, known in joined(workspace.items_as_read(space), workspace.store.known(space)):
        if item is not None:
            yield item, known


def bring_up_to_date(
    workspace: Workspace,
    config: EncoderConfig,
    embedder: Embedder,
    *,
    consent: Consent,
    set_aside: SetAside,
    watch: Watch,
) -> Tally:
    """Embed what is new in one space, and take away what lost its content.

    Raises:
        OtherVectors: the embedder contradicts the vectors that the store holds.
        TooManyRejects: the limit of `set_aside` was passed; what was embedded stays.
        TooManyGone: so many items lost their content that it may be a mistake; they keep their
            vectors, and what was embedded stays.
    """
    tally = Tally(modality=config.modality, encoder=config.name or config.encoder)
    name = f"{tally.modality} {tally.encoder}"
    with watch.task(f"{name}: still the same encoder?"):
        renew_before = _prove(workspace, config, embedder, consent)
    job = _job(workspace, config, embedder.space, renew_before)
    lost_ids: list[str] = []
    with watch.task(name, total=workspace.catalog.num_items) as advance:
        outcomes = _engine(workspace, embedder).run(
            job, embedder, pairs(workspace, embedder.space), on_progress=advance
        )
        for outcome in outcomes:
            tally.embedded += outcome.num_embedded
            tally.unchanged += outcome.num_unchanged
            tally.rejected += len(outcome.rejects)
            lost_ids += outcome.lost_ids
            set_aside.add(outcome.rejects)
    tally.lost = _take_away(workspace, job, sorted(lost_ids), tally, consent)
    if (Entity.ITEM, embedder.space.space_id) in workspace.store.spaces():
        tally.space = embedder.space
    return tally


def _engine(workspace: Workspace, embedder: Embedder) -> Engine:
    config = workspace.settings.embedding
    if embedder.is_looked_up:  # a remote process would read a file to look up what is here
        return LocalEngine(num_workers=config.num_workers)
    return open_engine(config)


def _job(
    workspace: Workspace, config: EncoderConfig, space: Space, renew_before: datetime | None
) -> EmbeddingJob:
    settings, catalog = workspace.settings, workspace.catalog
    return EmbeddingJob(
        encoder=config,
        space=space,
        folder=catalog.folder,
        brought=catalog.brought,
        store_root=settings.store.root,
        store_profile=settings.store.profile,
        store_parts_url=settings.store.parts_url,
        batch_rows=settings.embedding.batch_rows,
        now=datetime.now(UTC),
        renew_before=renew_before,
    )


def _take_away(
    workspace: Workspace, job: EmbeddingJob, lost_ids: list[str], tally: Tally, consent: Consent
) -> int:
    if not lost_ids:
        return 0
    imputed = workspace.store.imputed(job.space)  # inferred for want of content: nothing is lost
    item_ids = [one for one in lost_ids if one not in imputed]
    if not consent.deletions:
        gone = Gone(item_ids=item_ids, num_stored=len(lost_ids) + tally.unchanged + tally.embedded)
        gone.refuse_many(
            max_share=workspace.settings.embedding.max_deleted_share,
            what=f"items with {tally.modality} vectors show no such content",
        )
    return workspace.store.delete(item_ids, at=job.now, space=job.space)


def _prove(
    workspace: Workspace, config: EncoderConfig, embedder: Embedder, consent: Consent
) -> datetime | None:
    """The moment before which rows were made by other weights; None where none can have been."""
    if not embedder.is_looked_up:
        return _prove_by_probes(workspace.store, embedder, may_repair=consent.repairs)
    if config.encoder == "brought" and not consent.changed:
        _refuse_swapped(workspace, embedder)
    return None


def _refuse_swapped(workspace: Workspace, embedder: Embedder) -> None:
    num_changed, num_known = changed_share(embedder, pairs(workspace, embedder.space))
    if looks_like_another_encoder(num_changed, num_known):
        raise OtherVectors(
            f"{num_changed:,} of {num_known:,} known {embedder.space.modality} vectors of "
            f"{embedder.space.encoder!r} differ from before, as those of another encoder would. If "
            "they are, give them a name or a revision of their own in [[encoders]]; if they are "
            "not, run `sommelier embed --accept-changed`. None of them was written"
        )


def _prove_by_probes(store: Store, embedder: Embedder, *, may_repair: bool) -> datetime:
    found = probe(embedder)
    assert found is not None, "only looked-up vectors have no probes"
    stored = store.probes(embedder.space)
    if stored is not None and agree(stored, found):
        return stored.created
    if stored is not None and not may_repair:
        raise OtherVectors(_disagreement(embedder.space, stored, found))
    # A space from before there were probes is taken at its word: its rows count as newer.
    created = EPOCH if stored is None else datetime.now(UTC)
    store.write_probes(
        embedder.space,
        Probes(item_ids=tuple(found.item_ids), vectors_KD=found.vectors_ND, created=created),
    )
    return created


def _disagreement(space: Space, stored: Probes, found: Embeddings) -> str:
    seen = "takes other probes than before"
    if tuple(stored.item_ids) == tuple(found.item_ids):
        least = cosines(stored, found).min()
        seen = (
            f"makes other vectors than before: those of its probes have a cosine of {least:.4f} to "
            f"the old ones, and at least {LEAST_COSINE} is expected"
        )
    return (
        f"{space.space_id}: the encoder {seen}. Its weights were exchanged under the same "
        "revision, or a library computes otherwise. Put the old ones back, or run `sommelier "
        "embed --repair`: it makes the rows again that the old ones made. None was written"
    )
