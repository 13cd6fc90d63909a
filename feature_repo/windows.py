"""Interactions in, histories out: one row for each user and time, holding the last events.

A row holds the user's last events up to and including its own time, so that a point-in-time join
finds the history as of any moment. Events of one time are ordered by position, then by their
order in the table.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import parts, retention
from feature_repo.base import HistoryConfig, StoreError
from feature_repo.tables import history_view

BATCH_SIZE = 20_000  # rows of up to 50 events and four lists: some 40 MB
# Events whose rows are made at once: DuckDB holds lists in memory.
EVENTS_PER_BUCKET = 100_000


def changed_windows(
    root: Path, interactions: pa.Table, *, config: HistoryConfig, created: datetime
) -> Iterator[pa.RecordBatch]:
    """The history rows that the store at `root` does not hold yet, or holds otherwise.

    Rows that a compaction would drop at once are left out.

    Args:
        root: The store.
        interactions: user_id, item_id, behavior, weight, timestamp, position; all events of each
            user it names. Where timestamp is null the time is the epoch plus position seconds.
            An optional column is_new: rows before a user's first new event are left out.
        config: How many events a row holds.
        created: The rows' `created`.

    Raises:
        StoreError: an event has neither a timestamp nor a position.
    """
    check_times(interactions)
    view = history_view()
    # DuckDB may scan in any order; the table's own order decides among equals.
    numbers = pa.array(range(interactions.num_rows), pa.int64())
    events = interactions.append_column("n", numbers)
    if "is_new" not in events.column_names:
        events = events.append_column("is_new", pa.array([True] * len(events), pa.bool_()))
    num_buckets = -(-len(events) // EVENTS_PER_BUCKET)
    for bucket in range(num_buckets):
        given = {
            "created": created,
            "horizon": retention.read(root).get(view.name),
            "bucket": bucket,
            "num_buckets": num_buckets,
        }
        sql = _CHANGED.format(before=config.limit - 1)
        found = parts.stream(
            root, view, sql, given, batch_size=BATCH_SIZE, tables={"events": events}
        )
        for batch in found:
            yield batch.cast(view.schema)


def check_times(interactions: pa.Table) -> None:
    """See that every event has a time, or a place among its user's.

    Raises:
        StoreError: some have not; the message names the first user.
    """
    with parts.connect() as connection:
        connection.register("events", interactions)
        bad = connection.execute(
            "SELECT count(*), min(user_id) FROM events "
            'WHERE "timestamp" IS NULL AND "position" IS NULL'
        ).fetchone()
    assert bad is not None
    if bad[0]:
        raise StoreError(
            f"{bad[0]} interactions have neither a timestamp nor a position, the first belongs "
            f"to user {bad[1]!r}; give every event one of them"
        )


# Frames, not slices of a user's whole log: a join would copy that log for each of its rows, and a
# robot among the users has a hundred thousand.
_CHANGED = f"""
WITH timed AS (
    SELECT
        user_id,
        item_id,
        behavior,
        coalesce("timestamp", to_timestamp("position")) AS moment,
        coalesce(weight, 'nan')::FLOAT AS weight,
        is_new,
        row_number() OVER (
            PARTITION BY user_id
            ORDER BY coalesce("timestamp", to_timestamp("position")), "position", n
        ) AS nth
    FROM events
    WHERE hash(user_id) % $num_buckets = $bucket
), hashed AS (
    SELECT
        user_id,
        nth,
        moment AS event_timestamp,
        hash(list(hash(item_id, behavior, moment, weight)) OVER frame)::VARCHAR AS content_hash
    FROM timed
    WINDOW
        of_user AS (PARTITION BY user_id),
        in_order AS (PARTITION BY user_id ORDER BY nth),
        frame AS (in_order ROWS BETWEEN {{before}} PRECEDING AND CURRENT ROW)
    QUALIFY lead(moment) OVER in_order IS DISTINCT FROM moment
        AND moment >= min(CASE WHEN is_new THEN moment END) OVER of_user
        AND moment >= coalesce(
            max(CASE WHEN moment <= $horizon THEN moment END) OVER of_user, '-infinity'
        )
), stored AS (
    SELECT user_id, event_timestamp, arg_max(coalesce(content_hash, ''), created) AS content_hash
    FROM {parts.ROWS}
    WHERE hash(user_id) % $num_buckets = $bucket
    GROUP BY user_id, event_timestamp
), changed AS (
    -- Before the lists are made: a second run over the same events makes none.
    SELECT * FROM hashed ANTI JOIN stored USING (user_id, event_timestamp, content_hash)
), framed AS (
    SELECT
        user_id,
        nth,
        list(item_id) OVER frame AS item_ids,
        list(behavior) OVER frame AS behaviors,
        list(epoch_us(moment)) OVER frame AS times,
        list(weight) OVER frame AS weights
    FROM timed SEMI JOIN changed USING (user_id)
    WINDOW frame AS (
        PARTITION BY user_id ORDER BY nth ROWS BETWEEN {{before}} PRECEDING AND CURRENT ROW
    )
)
SELECT
    user_id,
    event_timestamp,
    $created::TIMESTAMPTZ AS created,
    content_hash,
    item_ids,
    behaviors,
    times,
    weights
FROM changed JOIN framed USING (user_id, nth)
ORDER BY user_id, event_timestamp
"""  # nosec B608
