"""Every split becomes a time of its own: train before valid before test, order kept within."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.history import seen_before
from evaluation.order import BANDS, START, TICK, Ordered, by_given, by_user
from evaluation.split import split

DAY = datetime(2024, 1, 1, tzinfo=UTC)
Row = tuple[str, str, float | None, int | None, str | None]


def events(*rows: Row, behaviors: list[str] | None = None) -> pa.Table:
    users, items, days, positions, splits = zip(*rows, strict=True)
    times = [None if day is None else DAY + timedelta(days=day) for day in days]
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "behavior": pa.array(behaviors or ["buy"] * len(rows), pa.string()),
            "weight": pa.array([1.0] * len(rows), pa.float32()),
            "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
            "position": pa.array(positions, pa.int32()),
            "split": pa.array(splits, pa.string()),
        }
    )


def bands(found: Ordered) -> dict[str, list[str]]:
    """Band -> `user item`, in the clock's order, ties by name."""
    rows = sorted(
        (row["timestamp"], f"{row['user_id']} {row['item_id']}", row["split"])
        for row in found.interactions.to_pylist()
    )
    return {band: [name for _, name, one in rows if one == band] for band in BANDS}


GIVEN = events(
    ("u", "a", 9, None, "train"),
    ("u", "b", 1, None, "test"),
    ("u", "c", 5, None, "valid"),
    ("v", "a", 3, None, "train"),
    ("v", "d", 8, None, "valid"),
)


def test_a_given_split_is_followed_whatever_the_real_times_say() -> None:
    found = by_given(GIVEN)
    assert bands(found) == {
        "train": ["v a", "u a"],
        "valid": ["u c", "v d"],
        "test": ["u b"],
    }


def test_the_borders_part_the_bands() -> None:
    found = by_given(GIVEN)
    assert (found.graph_until, found.cut) == (START + 2 * TICK, START + 4 * TICK)
    for row in found.interactions.to_pylist():
        assert (row["timestamp"] < found.graph_until) == (row["split"] == "train")
        assert (row["timestamp"] >= found.cut) == (row["split"] == "test")


def test_no_moment_before_the_cut_depends_on_an_event_behind_it() -> None:
    whole = by_given(GIVEN)
    future = GIVEN.filter(pc.equal(GIVEN["split"], "test"))
    more = pa.concat_tables([GIVEN, future, events(("w", "z", 0.5, None, "test"))])
    none = GIVEN.filter(pc.not_equal(GIVEN["split"], "test"))

    def past(found: Ordered) -> pa.Table:
        return found.interactions.filter(pc.less(found.interactions["timestamp"], found.cut))

    for other in (by_given(more), by_given(none)):
        assert (other.graph_until, other.cut) == (whole.graph_until, whole.cut)
        assert past(other).equals(past(whole))


def test_without_times_and_positions_a_band_is_one_moment() -> None:
    found = by_given(
        events(
            ("u", "a", None, None, "train"),
            ("u", "b", None, None, "train"),
            ("u", "c", None, None, "valid"),
            ("u", "d", None, None, "test"),
        )
    )
    assert not found.has_order
    assert found.interactions["timestamp"].to_pylist() == [
        START,
        START,
        START + TICK,
        START + 2 * TICK,
    ]


def test_positions_order_where_there_are_no_times() -> None:
    found = by_given(
        events(
            ("u", "b", None, 1, "train"),
            ("u", "a", None, 0, "train"),
            ("u", "c", None, 2, "valid"),
            ("u", "d", None, 3, "test"),
        )
    )
    assert found.has_order
    assert found.interactions["item_id"].to_pylist() == ["a", "b", "c", "d"]


def test_times_of_some_events_alone_are_refused() -> None:
    some = events(("u", "a", 1, None, "train"), ("u", "b", None, None, "valid"))
    with pytest.raises(ValueError, match="of 2 interactions 1 have a timestamp and 0 a position"):
        by_given(some)


def test_an_event_without_a_split_is_refused() -> None:
    some = events(("u", "a", 1, None, "train"), ("u", "b", 2, None, None))
    with pytest.raises(ValueError, match=r"1 of 2 interactions have no split.*time\.split"):
        by_given(some)


def test_without_valid_events_the_ranker_could_not_learn() -> None:
    some = events(("u", "a", 1, None, "train"), ("u", "b", 2, None, "test"))
    with pytest.raises(ValueError, match="1 events are train and 0 valid"):
        by_given(some)


def test_the_last_choice_is_judged_and_the_one_before_it_teaches_the_ranker() -> None:
    found = by_user(
        events(
            ("u", "a", 1, None, None),
            ("u", "b", 2, None, None),
            ("u", "c", 3, None, None),
            ("v", "x", 101, None, None),
            ("v", "y", 102, None, None),
        )
    )
    assert bands(found) == {
        "train": ["u a"],
        "valid": ["u b", "v x"],
        "test": ["u c", "v y"],
    }


def test_events_that_are_no_choices_go_with_the_choice_that_they_follow() -> None:
    table = events(
        ("u", "a", 1, None, None),
        ("u", "b", 2, None, None),
        ("u", "m", 3, None, None),
        ("u", "c", 4, None, None),
        ("u", "n", 5, None, None),
        behaviors=["buy", "buy", "view", "buy", "view"],
    )
    found = by_user(table, behaviors=["buy"])
    assert bands(found) == {"train": ["u a"], "valid": ["u b", "u m"], "test": ["u c", "u n"]}


def test_a_purchase_counts_from_the_view_that_led_to_it() -> None:
    table = events(
        ("u", "a", 1, None, None),
        ("u", "b", 2, None, None),
        ("u", "c", 3, None, None),
        ("u", "b", 4, None, None),
        ("u", "c", 5, None, None),
        behaviors=["buy", "view", "view", "buy", "buy"],
    )
    found = by_user(table, behaviors=["buy"])
    assert bands(found) == {"train": ["u a"], "valid": ["u b"], "test": ["u c", "u b", "u c"]}
    judged = split(found.interactions, cut=found.cut, behaviors=["buy"]).judgements
    assert [one.item_ids for one in judged] == [frozenset({"c"})]


def test_light_weights_and_absent_ones_are_no_choices() -> None:
    table = events(*(("u", item, day, None, None) for day, item in enumerate("abcde")))
    weights = pa.array([5, 5, 5, 1, None], pa.float32())
    found = by_user(table.set_column(3, "weight", weights), min_weight=4)
    assert bands(found) == {"train": ["u a"], "valid": ["u b"], "test": ["u c", "u d", "u e"]}


def test_every_user_is_judged_by_exactly_one_new_item() -> None:
    rows: list[Row] = [
        (f"u{user}", f"i{(user * 7 + n * 3) % 11}", user + n * 10, None, None)
        for user in range(9)
        for n in range(2 + user)
    ]
    found = by_user(events(*rows))
    judged = split(found.interactions, cut=found.cut).judgements
    assert [one.user_id for one in judged] == [f"u{user}" for user in range(9)]
    assert {len(one.item_ids) for one in judged} == {1}
    seen = seen_before(found.interactions, judged)
    assert all(not one.item_ids & seen[one.user_id] for one in judged)


def test_a_last_choice_without_any_order_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody's last choice is known"):
        by_user(events(("u", "a", None, None, None), ("u", "b", None, None, None)))


def test_who_chose_once_is_judged_without_a_history() -> None:
    rows: list[Row] = [("v", item, day, None, None) for day, item in enumerate("abc")]
    found = by_user(events(("u", "a", 1, None, None), *rows))
    parts = split(found.interactions, cut=found.cut)
    assert (parts.num_users_after, parts.num_without_history) == (2, 1)


@pytest.mark.parametrize(
    ("data_set", "sizes", "num_judged"),
    [("games", (339_172, 50_546, 50_546), 50_546), ("lastfm", (44_327, 4_799, 7_219), 1_858)],
)
def test_the_catalogs_own_splits_are_kept_whole(
    shared_data: Path, data_set: str, sizes: tuple[int, ...], num_judged: int
) -> None:
    table = read(shared_data / data_set)
    found = by_given(table)
    counts = Counter(found.interactions["split"].to_pylist())
    assert tuple(counts[band] for band in BANDS) == sizes
    assert found.has_order == (data_set == "games")
    parts = split(found.interactions, cut=found.cut)
    assert len(parts.judgements) == num_judged
    assert {one.as_of for one in parts.judgements} == {found.cut}


def test_the_last_items_of_games_are_those_that_its_split_names(shared_data: Path) -> None:
    table = read(shared_data / "games")
    given, own = by_given(table), by_user(table)
    assert own.interactions.equals(given.interactions)


def test_movielens_users_are_each_judged_by_their_last_rating(shared_data: Path) -> None:
    table = read(shared_data / "movielens")
    found = by_user(table, min_weight=4.0)
    parts = split(found.interactions, cut=found.cut, min_weight=4.0)
    last: dict[str, list[datetime]] = {}
    for row in table.to_pylist():
        if row["weight"] >= 4:
            last.setdefault(row["user_id"], []).append(row["timestamp"])
    assert len(parts.judgements) == 609
    assert len(last) == 609
    times = {(row["user_id"], row["item_id"]): row["timestamp"] for row in table.to_pylist()}
    for one in parts.judgements:
        (item_id,) = one.item_ids
        assert times[one.user_id, item_id] == max(last[one.user_id])


def read(folder: Path) -> pa.Table:
    """The interactions as the catalog holds them: `rating` is their weight."""
    table = pq.read_table(folder / "interactions.parquet").rename_columns({"rating": "weight"})
    return table.sort_by(
        [(name, "ascending") for name in ("user_id", "timestamp", "position", "item_id")]
    )
