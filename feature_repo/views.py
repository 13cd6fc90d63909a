"""Spaces in, Feast's definitions out: entities, one view for each space, the feature service.

A view's source is its folder of parts, by absolute path: Feast accepts a relative one when it
applies and then fails to find it from another working directory.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import feast
import pyarrow as pa
from feast.data_format import ParquetFormat
from feast.types import Array, Float32, Int64, String

from feature_repo import parts
from feature_repo.base import Entity, Spaces
from feature_repo.tables import (
    CREATED,
    EVENT_TIME,
    ITEM_PROFILE,
    SERVICE,
    USER_HISTORY,
    View,
    all_views,
)

OWNER = "sommelier"
# Longer than any catalog: content from the epoch is as true today, and Feast's first
# incremental materialization begins this long ago.
FOREVER = timedelta(days=36_525)

_TYPES: dict[pa.DataType, Any] = {
    pa.string(): String,
    pa.list_(pa.string()): Array(String),
    pa.list_(pa.int64()): Array(Int64),
    pa.list_(pa.float32()): Array(Float32),
}
_DESCRIPTIONS = {
    ITEM_PROFILE: "What is shown of an item",
    USER_HISTORY: "A user's last events up to and including the event timestamp, oldest first",
}


def build(root: Path, spaces: Spaces) -> list[Any]:
    """Every Feast object of the store at `root`; views without rows are made readable."""
    entities = {
        entity: feast.Entity(
            name=entity,
            join_keys=[entity.join_key],
            value_type=feast.ValueType.STRING,
            description=f"One {entity} of the catalog",
            owner=OWNER,
        )
        for entity in Entity
    }
    views = [_build_view(root, view, entities[view.entity]) for view in all_views(spaces)]
    service = feast.FeatureService(
        name=SERVICE,
        features=list(views),
        description="Everything that the reranker reads: vectors, profiles and histories",
        owner=OWNER,
    )
    return [*entities.values(), *views, service]


def _build_view(root: Path, view: View, entity: feast.Entity) -> feast.FeatureView:
    parts.define(root, view)
    source = feast.FileSource(
        name=view.name,
        path=str(parts.folder(root, view).absolute()),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
        created_timestamp_column=CREATED,
        owner=OWNER,
    )
    dim = view.space.dim if view.space else 0
    fields = [
        feast.Field(
            name=name,
            dtype=_TYPES[view.schema.field(name).type],
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
        description=_DESCRIPTIONS.get(view.name)
        or f"Vectors of the space in the tags, by {view.key}",
        owner=OWNER,
    )


def _tags(view: View) -> dict[str, str]:
    if view.space is None:
        return {"entity": view.entity}
    return {
        "entity": view.entity,
        "space_id": view.space.space_id,
        "modality": view.space.modality or "fused",
        "encoder": view.space.encoder,
        "revision": view.space.revision,
        "preprocessing": view.space.preprocessing,
        "dim": str(view.space.dim),
        "is_normalized": str(view.space.is_normalized).lower(),
    }
