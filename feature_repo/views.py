"""Spaces and text sources in, Feast's definitions out: entities, a view of each, the services.

A view's source is its folder of parts, by absolute path: Feast accepts a relative one when it
applies and then fails to find it from another working directory.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import feast
import pyarrow as pa
from feast.data_format import ParquetFormat
from feast.types import Array, Float32, Int64, String

from feature_repo import mirror, parts
from feature_repo.base import Entity, Releases, Sources, Spaces, StoreError, View
from feature_repo.tables import CREATED, EVENT_TIME, ITEM_PROFILE, SERVICE, USER_HISTORY, all_views

OWNER = "sommelier"
RELEASED = "rerank"  # a release's service: `rerank_<release>`
# Longer than any catalog: content from the epoch is as true today, and Feast's first
# incremental materialization begins this long ago.
FOREVER = timedelta(days=36_525)

_TYPES: dict[pa.DataType, Any] = {
    pa.string(): String,
    pa.int64(): Int64,
    pa.list_(pa.string()): Array(String),
    pa.list_(pa.int64()): Array(Int64),
    pa.list_(pa.float32()): Array(Float32),
}
_ENTITIES = {
    Entity.ITEM: "One item of the catalog, by its id there",
    Entity.USER: "One user of the catalog's interactions, by their id there",
}
_DESCRIPTIONS = {
    ITEM_PROFILE: "What is shown of an item",
    USER_HISTORY: "A user's last events up to and including the event timestamp, oldest first",
}
_FEATURES = {
    "text": "The source in the view's tags says who wrote it, and how it was asked",
    "position": "How many of the user's events the text has read",
    "vector": "The space in the view's tags says what it is comparable with",
    "title": "As the catalog has it",
    "description": "As the catalog has it",
    "category": "As the catalog has it",
    "attributes": "The catalog's further columns: a JSON object of texts",
    "item_ids": "What was acted on; the four lists are of one length",
    "behaviors": "What was done, such as view or purchase",
    "times": "Microseconds since the epoch; one second for each position where no time is known",
    "weights": "Such as a rating; NaN where there is none",
}


def build(root: Path, spaces: Spaces, sources: Sources, releases: Releases) -> list[Any]:
    """Every Feast object of the store at `root`; views without rows are made readable.

    A release one of whose spaces or sources is not there any more has no feature service.
    """
    entities = {
        entity: feast.Entity(
            name=entity,
            join_keys=[entity.join_key],
            value_type=feast.ValueType.STRING,
            description=_ENTITIES[entity],
            tags={"room": "feature_repo"},
            owner=OWNER,
        )
        for entity in Entity
    }
    tables = all_views(spaces, sources)
    views = {view.name: _build_view(root, view, entities[view.entity]) for view in tables}
    everything = _service(
        SERVICE,
        list(views.values()),
        description="Everything that is kept: vectors, texts, profiles and histories",
    )
    return [*entities.values(), *views.values(), everything, *_services(tables, views, releases)]


def no_longer_there(store: feast.FeatureStore, root: Path, objects: Sequence[Any]) -> list[Any]:
    """What the registry still holds of the store at `root` although it is not among `objects`.

    Raises:
        StoreError: every view of vectors and texts would go: the folder is rather the wrong one.
    """
    names = {(type(one), one.name) for one in objects}
    below = f"{root.absolute() / 'parts'}/"
    views = [
        view
        for view in store.list_feature_views()
        if view.owner == OWNER
        and (feast.FeatureView, view.name) not in names
        and str(getattr(view.batch_source, "path", "")).startswith(below)
    ]
    if views and not any(map(_is_made, objects)):
        raise StoreError(
            f"{root} holds no space, but the registry knows {', '.join(v.name for v in views)} "
            "from there: see that the right folder is mounted; if everything was dropped on "
            "purpose, take each away with `feast delete <view>`"
        )
    services = [
        service
        for service in store.list_feature_services()
        if service.owner == OWNER and (feast.FeatureService, service.name) not in names
    ]
    return [*services, *views, *(view.batch_source for view in views)]


def _is_made(one: Any) -> bool:
    """Whether an object is a view of a space's vectors or of a source's texts."""
    return isinstance(one, feast.FeatureView) and not {"space_id", "source_id"}.isdisjoint(one.tags)


def _services(
    tables: Sequence[View], views: dict[str, feast.FeatureView], releases: Releases
) -> list[feast.FeatureService]:
    """One for each release: its spaces' and sources' views, the profiles and the histories."""
    known = {view.origin_id for view in tables}
    return [
        _service(
            f"{RELEASED}_{name}",
            [views[table.name] for table in tables if table.origin_id in {None, *read}],
            description=f"Everything that release {name} reads",
            tags={"release": name},
        )
        for name, read in sorted(releases.items())
        if known.issuperset(read)
    ]


def _service(
    name: str,
    views: list[feast.FeatureView],
    *,
    description: str,
    tags: dict[str, str] | None = None,
) -> feast.FeatureService:
    return feast.FeatureService(
        name=name, features=[*views], description=description, tags=tags, owner=OWNER
    )


def _build_view(root: Path, view: View, entity: feast.Entity) -> feast.FeatureView:
    parts.define(root, view)
    mirror.pull(root, parts.folder(root, view))  # Feast's own commands list no parts
    rows = feast.FileSource(
        name=view.name,
        path=str(parts.folder(root, view).absolute()),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
        created_timestamp_column=CREATED,
        description=f"The parts of {view.name}",
        owner=OWNER,
    )
    source = rows if view.name != USER_HISTORY else _pushed(rows)
    dim = view.space.dim if view.space else 0
    fields = [
        feast.Field(
            name=name,
            dtype=_TYPES[view.schema.field(name).type],
            description=_FEATURES[name],
            vector_length=dim if name == "vector" else 0,
        )
        for name in view.features
    ]
    return feast.FeatureView(
        name=view.name,
        entities=[entity],
        schema=[feast.Field(name=view.key, dtype=String), *fields],
        source=source,
        ttl=FOREVER,
        online=True,
        tags=_tags(view),
        description=_DESCRIPTIONS.get(view.name) or f"{_what(view)} in the tags, by {view.key}",
        owner=OWNER,
    )


def _pushed(rows: feast.FileSource) -> feast.PushSource:
    """A source that also takes rows one by one, for what cannot wait for the night."""
    return feast.PushSource(
        name=f"{rows.name}_push",
        batch_source=rows,
        description="Histories of users who acted just now",
        owner=OWNER,
    )


def _what(view: View) -> str:
    return "Texts of the source" if view.source else "Vectors of the space"


def _tags(view: View) -> dict[str, str]:
    if view.source:
        facts = asdict(view.source) | {"source_id": view.source.source_id}
        return {"entity": str(view.entity), **{name: str(one) for name, one in facts.items()}}
    if view.space is None:
        return {"entity": view.entity}
    return {
        "entity": view.entity,
        "space_id": view.space.space_id,
        "modality": view.space.modality or "fused",
        "encoder": view.space.encoder,
        "revision": view.space.revision,
        "preprocessing": view.space.preprocessing or "none",
        "dim": str(view.space.dim),
        "is_normalized": str(view.space.is_normalized).lower(),
    }
