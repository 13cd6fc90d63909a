"""How many known contents changed: the sign that another encoder wrote under the old name."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.brought import BroughtEmbedder
from embedders.changed import changed_share, looks_like_another_encoder
from embedders.items import Item, Modality
from embedders.known import DELETED, Known

NOW = datetime(2024, 1, 1, tzinfo=UTC)
NUM_ROWS = 30


def item(item_id: str) -> Item:
    return Item(item_id=item_id, title="T")


def brought(path: Path, firsts: Sequence[float]) -> BroughtEmbedder:
    ids = [f"{n:02d}" for n in range(len(firsts))]
    vectors = pa.array([[first, 1.0] for first in firsts], pa.list_(pa.float32()))
    pq.write_table(pa.table({"item_id": ids, "vector": vectors}), path)
    return BroughtEmbedder(path, modality=Modality.TEXT, name="mine")


def stored(embedder: BroughtEmbedder) -> dict[str, Known]:
    known = {}
    for n in range(NUM_ROWS):
        content_hash = embedder.fingerprint(item(f"{n:02d}"))
        assert content_hash
        known[f"{n:02d}"] = Known(content_hash, NOW, NOW)
    return known


def test_a_file_that_only_grew_shows_no_change(tmp_path: Path) -> None:
    known = stored(brought(tmp_path / "a.parquet", range(NUM_ROWS)))
    after = brought(tmp_path / "b.parquet", range(NUM_ROWS + 5))
    ids = [f"{n:02d}" for n in range(NUM_ROWS + 5)]

    counts = changed_share(after, ((item(each), known.get(each)) for each in ids))

    assert counts == (0, NUM_ROWS)
    assert not looks_like_another_encoder(*counts)


@pytest.mark.parametrize(("num_changed", "is_other"), [(15, False), (16, True), (30, True)])
def test_more_than_half_of_the_rows_must_differ(
    num_changed: int, is_other: bool, tmp_path: Path
) -> None:
    known = stored(brought(tmp_path / "a.parquet", range(NUM_ROWS)))
    firsts = [n + 0.5 * (n < num_changed) for n in range(NUM_ROWS)]

    counts = changed_share(
        brought(tmp_path / "b.parquet", firsts), [(item(each), known[each]) for each in known]
    )

    assert counts == (num_changed, NUM_ROWS)
    assert looks_like_another_encoder(*counts) is is_other


def test_of_few_rows_all_may_change() -> None:
    assert not looks_like_another_encoder(19, 19)
    assert looks_like_another_encoder(20, 20)
    assert not looks_like_another_encoder(0, 0)


def test_rows_that_are_new_gone_taken_away_or_damaged_are_not_counted(tmp_path: Path) -> None:
    known = stored(brought(tmp_path / "a.parquet", range(NUM_ROWS)))
    tombstone = Known(DELETED, NOW, NOW)
    after = brought(tmp_path / "b.parquet", [0.0, 9.0, float("nan"), 7.0, 8.0])
    pairs = [
        (item("00"), known["00"]),
        (item("01"), known["01"]),
        (item("02"), known["02"]),  # damaged now
        (item("03"), None),  # new
        (item("04"), tombstone),  # taken away, and back
        (item("29"), known["29"]),  # no longer in the file
    ]

    assert changed_share(after, pairs) == (1, 2)
