"""Names and Arrow schemas: what a view is called, and which columns its rows have.

Everything that is not Feast itself learns of the views here, so that nothing else has to import
the definitions (Feast imports them under another name, and a second copy conflicts).
Timestamps are microseconds in UTC: DuckDB and Feast disagree about nanoseconds. A row whose
content hash is `DELETED` is a tombstone: its features are null, and its event timestamp is the
moment from which the id is gone.
"""

import pyarrow as pa

from embedders.known import DELETED
from embedders.texts import TextKind, TextSource
from embedders.vectors import Space
from feature_repo.base import Entity, Sources, Spaces, View

__all__ = [
    "CREATED",
    "DELETED",
    "EVENT_TIME",
    "HISTORY_COLUMNS",
    "INSTANT",
    "ITEM_PROFILE",
    "PROFILE_COLUMNS",
    "REJECT_SCHEMA",
    "SERVICE",
    "USER_HISTORY",
    "all_views",
    "history_view",
    "profile_view",
    "text_view",
    "vector_view",
]

ITEM_PROFILE = "item_profile"
USER_HISTORY = "user_history"
SERVICE = "rerank_v1"
EVENT_TIME = "event_timestamp"
CREATED = "created"

INSTANT = pa.timestamp("us", tz="UTC")

PROFILE_COLUMNS = {
    "title": pa.string(),
    "description": pa.string(),
    "category": pa.string(),
    "attributes": pa.string(),  # a JSON object of texts
}
HISTORY_COLUMNS = {
    # Four lists of one length, oldest event first.
    "item_ids": pa.list_(pa.string()),
    "behaviors": pa.list_(pa.string()),
    "times": pa.list_(pa.int64()),  # microseconds since the epoch
    "weights": pa.list_(pa.float32()),  # NaN where there is none
}
DESCRIBED = {TextKind.PREFERENCE: Entity.USER, TextKind.SUMMARY: Entity.ITEM}
REJECT_SCHEMA = pa.schema(
    {"source": pa.string(), "key": pa.string(), "reason": pa.string(), CREATED: INSTANT}
)


def vector_view(space: Space, *, entity: Entity = Entity.ITEM) -> View:
    """The view of one space's vectors; two spaces never share one."""
    columns = {
        "vector": pa.list_(pa.float32()),
        "space_id": pa.string(),
        "imputed": pa.bool_(),  # inferred, as the item shows no such content of its own
    }
    return _view(
        name=f"{entity}_{space.space_id}",
        entity=entity,
        columns=columns,
        features=("vector",),
        space=space,
    )


def text_view(source: TextSource) -> View:
    """The view of one source's texts; two sources never share one."""
    entity = DESCRIBED[source.kind]
    columns = {"text": pa.string()}
    if source.kind is TextKind.PREFERENCE:
        columns["position"] = pa.int64()
    return _view(
        name=f"{entity}_{source.source_id}",
        entity=entity,
        columns=columns | {"source_id": pa.string()},
        features=tuple(columns),
        source=source,
    )


def profile_view() -> View:
    return _view(
        name=ITEM_PROFILE,
        entity=Entity.ITEM,
        columns=PROFILE_COLUMNS,
        features=tuple(PROFILE_COLUMNS),
    )


def history_view() -> View:
    return _view(
        name=USER_HISTORY,
        entity=Entity.USER,
        columns=HISTORY_COLUMNS,
        features=tuple(HISTORY_COLUMNS),
    )


def all_views(spaces: Spaces, sources: Sources) -> list[View]:
    """Every view of a store: the vectors' and the texts' by name, then profiles and histories."""
    made = [vector_view(space, entity=entity) for (entity, _), space in spaces.items()]
    made += map(text_view, sources.values())
    return [*sorted(made, key=lambda view: view.name), profile_view(), history_view()]


def _view(
    *,
    name: str,
    entity: Entity,
    columns: dict[str, pa.DataType],
    features: tuple[str, ...],
    space: Space | None = None,
    source: TextSource | None = None,
) -> View:
    stamps = {
        entity.join_key: pa.string(),
        EVENT_TIME: INSTANT,
        CREATED: INSTANT,
        "content_hash": pa.string(),
    }
    schema = pa.schema(stamps | columns)
    return View(
        name=name, entity=entity, schema=schema, features=features, space=space, source=source
    )
