"""Interactions in, histories out: one row for each user and time, holding the last events.

A row holds the user's last events up to and including its own time, so that a point-in-time join
finds the history as of any moment. Events of one time are ordered by position, then by their
order in the table.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import parts
from feature_repo.base import HistoryConfig, StoreError
from feature_repo.tables import history_view

BATCH_SIZE = 20_000  # rows of up to 50 events and four lists: some 40 MB


def changed_windows(
    root: Path, interactions: pa.Table, *, config: HistoryConfig, created: datetime
) -> Iterator[pa.RecordBatch]:
    """The history rows that the store at `root` does not hold yet, or holds otherwise.

    Args:
        root: The store.
        interactions: user_id, item_id, behavior, weight, timestamp, position; all events of each
            user it names. Where timestamp is null the time is the epoch plus position seconds.
        config: How many events a row holds.
        created: The rows' `created`.

    Raises:
        StoreError: an event has neither a timestamp nor a position.
    """
    view = history_view()
    parts.define(root, view)
    # DuckDB may scan in any order; the table's own order decides among equals.
    events = interactions.append_column("n", pa.array(range(interactions.num_rows), pa.int64()))
    with parts.connect() as connection:
        connection.register("events", events)
        _check_times(connection)
        rows = connection.execute(
            _CHANGED,
            {
                "files": [str(part) for part in parts.list_parts(root, view)],
                "limit": config.limit,
                "created": created,
            },
        )
        for batch in rows.to_arrow_reader(BATCH_SIZE):
            yield batch.cast(view.schema)


def _check_times(connection: parts.Connection) -> None:
    bad = connection.execute(
        'SELECT count(*), min(user_id) FROM events WHERE "timestamp" IS NULL AND "position" IS NULL'
    ).fetchone()
    assert bad is not None
    if bad[0]:
        raise StoreError(
            f"{bad[0]} interactions have neither a timestamp nor a position, the first belongs "
            f"to user {bad[1]!r}; give every event one of them"
        )


_CHANGED = """
WITH timed AS (
    SELECT
        user_id,
        item_id,
        behavior,
        coalesce("timestamp", to_timestamp("position")) AS moment,
        coalesce(weight, 'nan')::FLOAT AS weight,
        row_number() OVER (
            PARTITION BY user_id
            ORDER BY coalesce("timestamp", to_timestamp("position")), "position", n
        ) AS nth
    FROM events
), logs AS (
    SELECT
        user_id,
        list(item_id ORDER BY nth) AS item_ids,
        list(behavior ORDER BY nth) AS behaviors,
        list(epoch_us(moment) ORDER BY nth) AS times,
        list(weight ORDER BY nth) AS weights,
        list(hash(item_id, behavior, moment, weight) ORDER BY nth) AS hashes
    FROM timed
    GROUP BY user_id
), moments AS (
    SELECT
        user_id,
        moment AS event_timestamp,
        max(nth) AS last,
        greatest(max(nth) - $limit + 1, 1) AS first
    FROM timed
    GROUP BY user_id, moment
), hashed AS (
    SELECT moments.*, hash(hashes[first:last])::VARCHAR AS content_hash
    FROM moments JOIN logs USING (user_id)
), stored AS (
    SELECT user_id, event_timestamp, arg_max(content_hash, created) AS content_hash
    FROM read_parquet($files)
    GROUP BY user_id, event_timestamp
), changed AS (
    -- Before the lists are cut: a second run over the same events copies none.
    SELECT * FROM hashed ANTI JOIN stored USING (user_id, event_timestamp, content_hash)
)
SELECT
    user_id,
    event_timestamp,
    $created::TIMESTAMPTZ AS created,
    content_hash,
    item_ids[first:last] AS item_ids,
    behaviors[first:last] AS behaviors,
    times[first:last] AS times,
    weights[first:last] AS weights
FROM changed JOIN logs USING (user_id)
ORDER BY user_id, event_timestamp
"""
