"""A few new events in, their users' new history rows out: without the rest of their log.

What a user did before is taken from the stored rows: the latest one before the first new event,
and the last events of all that follow it. That is as much of the log as any new row can show, so
the rows are those that the whole log would give, also where an event comes late.
"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import parts, windows
from feature_repo.atomic import exclusively
from feature_repo.base import FeatureStore, HistoryConfig
from feature_repo.tables import CREATED, DELETED, EVENT_TIME, history_view


def push(
    root: Path, feature_store: FeatureStore, interactions: pa.Table, *, config: HistoryConfig
) -> int:
    """Append the rows that new events make or change, and bring their users' latest online.

    See `Store.push_events`. One push at a time: reading, adding and writing are one step.

    Args:
        root: The store.
        feature_store: Where the rows go online.
        interactions: user_id, item_id, behavior, weight, timestamp, position; the new events
            alone. An event whose time is yet to come waits for a materialization after it.
        config: How many events a row holds.

    Raises:
        StoreError: an event has no time at all, or the store was not applied; in the latter case
            the rows are written, and only not yet online.
    """
    windows.check_times(interactions)
    with exclusively(root / ".push.lock"):
        added = with_stored(root, interactions)
        batches = windows.changed_windows(root, added, config=config, created=datetime.now(UTC))
        num_rows = parts.append(root, history_view(), batches)
        bring_online(root, feature_store, added)
    return num_rows


def with_stored(root: Path, interactions: pa.Table) -> pa.Table:
    """The new events, and those stored ones of their users that new rows can show.

    An event that is stored already is not repeated. Among events of one time the stored ones come
    first, then the new ones by position and the table's order.

    Args:
        root: The store.
        interactions: user_id, item_id, behavior, weight, timestamp, position.

    Returns:
        The same columns and `is_new`, in the order of users and times. Every event has a
        timestamp and none a position.
    """
    numbers = pa.array(range(interactions.num_rows), pa.int64())
    events = interactions.append_column("n", numbers)
    rows = parts.stream(root, history_view(), _WITH_STORED, {}, tables={"events": events})
    found = pa.Table.from_batches(list(rows))
    return found.append_column("position", pa.nulls(found.num_rows, pa.int64()))


def bring_online(root: Path, feature_store: FeatureStore, added: pa.Table) -> None:
    """Push the named users' latest rows, whether or not they are new: a failed push is repeated.

    Raises:
        StoreError: the view was not applied, or the online store does not answer.
    """
    view = history_view()
    users = pa.table({"user_id": added["user_id"].unique()})
    sql = f"""
        SELECT {", ".join(view.schema.names)} FROM {parts.ROWS}
        WHERE {EVENT_TIME} <= $now AND user_id IN (SELECT user_id FROM users)
        QUALIFY row_number() OVER (
            PARTITION BY user_id ORDER BY {EVENT_TIME} DESC, {CREATED} DESC
        ) = 1
        ORDER BY user_id
        """  # nosec B608
    given = {"now": datetime.now(UTC)}
    for batch in parts.stream(root, view, sql, given, tables={"users": users}):
        if batch.num_rows:
            feature_store.push(view.name, pa.Table.from_batches([batch]).cast(view.schema))


_WITH_STORED = f"""
WITH fresh AS (
    SELECT
        user_id,
        item_id,
        behavior,
        coalesce("timestamp", to_timestamp("position")) AS moment,
        coalesce(weight, 'nan')::FLOAT AS weight,
        row_number() OVER (ORDER BY "position", n) AS nth
    FROM events
), since AS (
    SELECT user_id, min(moment) AS since FROM fresh GROUP BY user_id
), held AS (
    SELECT history.*, since
    FROM {parts.ROWS} AS history JOIN since USING (user_id)
    QUALIFY row_number() OVER (
        PARTITION BY user_id, {EVENT_TIME} ORDER BY {CREATED} DESC
    ) = 1
), living AS (
    -- What a user did before they were taken away is not theirs any more.
    SELECT * FROM held
    QUALIFY content_hash IS DISTINCT FROM '{DELETED}' AND {EVENT_TIME} >= coalesce(
        max(CASE WHEN content_hash = '{DELETED}' THEN {EVENT_TIME} END)
            OVER (PARTITION BY user_id),
        '-infinity'
    )
), needed AS (
    SELECT * FROM living
    QUALIFY {EVENT_TIME} >= coalesce(
        max(CASE WHEN {EVENT_TIME} < since THEN {EVENT_TIME} END) OVER (PARTITION BY user_id),
        '-infinity'
    )
), events_of_rows AS (
    SELECT
        user_id,
        {EVENT_TIME},
        min({EVENT_TIME}) OVER (PARTITION BY user_id) = {EVENT_TIME} AS is_first,
        unnest(item_ids) AS item_id,
        unnest(behaviors) AS behavior,
        make_timestamptz(unnest(times)) AS moment,
        unnest(weights) AS weight,
        unnest(range(len(item_ids))) AS nth
    FROM needed
), stored AS (
    SELECT user_id, item_id, behavior, moment, weight, false AS is_new, nth
    FROM events_of_rows WHERE is_first OR moment = {EVENT_TIME}
), counted AS (
    SELECT *, row_number() OVER (same_event ORDER BY nth) AS nth_of_same FROM stored
    WINDOW same_event AS (PARTITION BY user_id, item_id, behavior, moment, weight)
), added AS (
    SELECT user_id, item_id, behavior, moment, weight, true AS is_new, nth FROM (
        SELECT *, row_number() OVER (same_event ORDER BY nth) AS nth_of_same FROM fresh
        WINDOW same_event AS (PARTITION BY user_id, item_id, behavior, moment, weight)
    ) ANTI JOIN counted USING (user_id, item_id, behavior, moment, weight, nth_of_same)
)
SELECT user_id, item_id, behavior, weight, moment AS "timestamp", is_new FROM (
    FROM stored UNION ALL FROM added
)
ORDER BY user_id, moment, is_new, nth
"""  # nosec B608
