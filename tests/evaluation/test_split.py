"""Who is judged by what, and that everybody else is counted."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.history import seen_before
from evaluation.split import sample, split

CUT = datetime(2024, 3, 1, tzinfo=UTC)
BEFORE, AFTER, LATER = CUT - timedelta(days=1), CUT + timedelta(days=1), CUT + timedelta(days=40)


def table(*rows):
    """Rows of (user, item, behavior, weight, time) as the catalog reader gives them."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    return pa.table(
        {
            "user_id": pa.array(columns[0], pa.string()),
            "item_id": pa.array(columns[1], pa.string()),
            "behavior": pa.array(columns[2], pa.string()),
            "weight": pa.array(columns[3], pa.float32()),
            "timestamp": pa.array(columns[4], pa.timestamp("us", tz="UTC")),
            "position": pa.array([None] * len(columns[0]), pa.int32()),
        }
    )


def truth(found):
    return {one.user_id: set(one.item_ids) for one in found.judgements}


def test_a_user_is_judged_by_the_new_items_chosen_after_the_cut():
    found = split(
        table(
            ("u1", "old", "buy", None, BEFORE),
            ("u1", "new", "buy", None, AFTER),
            ("u1", "old", "buy", None, AFTER),
        ),
        cut=CUT,
    )
    assert truth(found) == {"u1": {"new"}}
    assert found.judgements[0].as_of == CUT
    assert found.num_repeated_choices == 1


def test_new_choices_that_the_catalog_lacks_stay_beside_the_truth():
    found = split(
        table(
            ("u1", "a", "buy", None, BEFORE),
            ("u1", "met, gone", "buy", None, BEFORE),
            ("u1", "b", "buy", None, AFTER),
            ("u1", "gone", "buy", None, AFTER),
            ("u1", "met, gone", "buy", None, AFTER),
        ),
        cut=CUT,
        known_items={"a", "b"},
    )
    assert truth(found) == {"u1": {"b"}}
    assert found.judgements[0].unknown_item_ids == {"gone"}


def test_an_item_merely_viewed_before_the_cut_is_not_new():
    found = split(
        table(
            ("u1", "a", "view", None, BEFORE),
            ("u1", "a", "buy", None, AFTER),
            ("u1", "b", "buy", None, AFTER),
        ),
        cut=CUT,
        behaviors={"buy"},
    )
    assert truth(found) == {"u1": {"b"}}


def test_the_cut_belongs_to_the_window_and_its_end_does_not():
    found = split(
        table(
            ("u1", "h", "buy", None, BEFORE),
            ("u1", "at cut", "buy", None, CUT),
            ("u1", "at end", "buy", None, LATER),
        ),
        cut=CUT,
        until=LATER,
    )
    assert truth(found) == {"u1": {"at cut"}}


def test_only_the_behaviors_and_weights_asked_for_are_choices():
    found = split(
        table(
            ("u1", "h", "rate", 5, BEFORE),
            ("u1", "liked", "rate", 4, AFTER),
            ("u1", "disliked", "rate", 3.5, AFTER),
            ("u1", "weightless", "rate", None, AFTER),
            ("u1", "viewed", "view", 5, AFTER),
        ),
        cut=CUT,
        behaviors={"rate"},
        min_weight=4,
    )
    assert truth(found) == {"u1": {"liked"}}


@pytest.fixture
def mixed():
    return table(
        ("stranger", "a", "buy", None, AFTER),
        ("viewer", "h", "buy", None, BEFORE),
        ("viewer", "a", "view", None, AFTER),
        ("explorer", "h", "buy", None, BEFORE),
        ("explorer", "uncataloged", "buy", None, AFTER),
        ("loyal", "a", "buy", None, BEFORE),
        ("loyal", "a", "buy", None, AFTER),
        ("judged", "h", "buy", None, BEFORE),
        ("judged", "a", "buy", None, AFTER),
        ("judged", "uncataloged", "buy", None, AFTER),
        ("gone", "a", "buy", None, BEFORE),
    )


def test_everybody_who_is_left_out_is_counted_once_by_cause(mixed):
    found = split(mixed, cut=CUT, behaviors={"buy"}, known_items={"a", "h"})
    assert truth(found) == {"judged": {"a"}}
    assert found.counts == {
        "num_users_after": 5,
        "num_without_history": 1,
        "num_without_choices": 1,
        "num_without_known_items": 1,
        "num_without_new_items": 1,
        "num_not_sampled": 0,
        "num_unknown_items": 1,
        "num_repeated_choices": 1,
        "num_warmed_up": 0,
    }


def test_more_history_can_be_asked_for_and_none_as_well(mixed):
    assert not split(mixed, cut=CUT, min_history=2).judgements
    everybody = split(mixed, cut=CUT, min_history=0)
    assert "stranger" in truth(everybody)
    assert everybody.num_without_history == 0


def test_users_come_ordered_by_id_whatever_the_order_of_events():
    rows = [(f"u{n}", "h", "buy", None, BEFORE) for n in (3, 1, 2)]
    rows += [(f"u{n}", "a", "buy", None, AFTER) for n in (2, 3, 1)]
    assert [one.user_id for one in split(table(*rows), cut=CUT).judgements] == ["u1", "u2", "u3"]


def test_ids_may_come_dictionary_encoded_and_times_in_another_unit():
    plain = table(("u1", "h", "buy", None, BEFORE), ("u1", "a", "buy", None, AFTER))
    encoded = plain.set_column(0, "user_id", plain["user_id"].dictionary_encode())
    encoded = encoded.set_column(
        4, "timestamp", plain["timestamp"].cast(pa.timestamp("ms", tz="UTC"))
    )
    assert split(encoded, cut=CUT) == split(plain, cut=CUT)


def test_no_events_judge_nobody():
    found = split(table(), cut=CUT)
    assert found.judgements == ()
    assert found.num_users_after == 0


def at(minutes):
    return CUT + timedelta(minutes=minutes)


@pytest.fixture
def sittings():
    """`newcomer` sees a, b and c (b and c in one moment), then chooses d, and d and a again."""
    return table(
        ("newcomer", "z", "view", None, BEFORE),
        ("newcomer", "a", "view", None, at(1)),
        ("newcomer", "c", "view", None, at(2)),
        ("newcomer", "b", "view", None, at(2)),
        ("newcomer", "d", "buy", None, at(5)),
        ("newcomer", "a", "buy", None, at(6)),
        ("newcomer", "z", "buy", None, at(7)),
        ("newcomer", "e", "buy", None, at(8)),
        ("brief", "a", "buy", None, at(1)),
        ("brief", "b", "buy", None, at(2)),
        ("burst", "a", "buy", None, at(3)),
        ("burst", "b", "buy", None, at(3)),
        ("burst", "c", "buy", None, at(3)),
        ("regular", "a", "buy", None, BEFORE),
        ("regular", "b", "buy", None, BEFORE),
        ("regular", "c", "buy", None, at(1)),
        ("regular", "d", "buy", None, at(9)),
    )


def test_a_newcomer_is_asked_after_a_warm_up_and_judged_on_what_follows(sittings):
    found = split(sittings, cut=CUT, min_history=2, behaviors={"buy"}, warm_up=2)
    assert truth(found) == {"newcomer": {"d", "e"}, "regular": {"c", "d"}}
    assert {one.user_id: one.as_of for one in found.judgements} == {
        "newcomer": at(5),  # the third event shares the second's moment, so it is history
        "regular": CUT,
    }
    assert found.counts == {
        "num_users_after": 4,
        "num_without_history": 2,  # brief has no third event, burst none of a later moment
        "num_without_choices": 0,
        "num_without_known_items": 0,
        "num_without_new_items": 0,
        "num_not_sampled": 0,
        "num_unknown_items": 0,
        "num_repeated_choices": 2,  # a was met during the warm-up, z before the cut
        "num_warmed_up": 1,
    }


def test_a_shorter_warm_up_asks_earlier_and_more_users(sittings):
    found = split(sittings, cut=CUT, min_history=2, warm_up=1)
    assert {one.user_id: one.as_of for one in found.judgements} == {
        "brief": at(2),
        "newcomer": at(2),
        "regular": CUT,
    }
    assert truth(found)["newcomer"] == {"b", "c", "d", "e"}
    assert found.num_warmed_up == 2


def test_without_a_warm_up_everybody_is_asked_at_the_cut(sittings):
    found = split(sittings, cut=CUT)
    assert {one.as_of for one in found.judgements} == {CUT}
    assert set(truth(found)) == {"newcomer", "regular"}
    assert (found.num_warmed_up, found.num_without_history) == (0, 2)


def test_a_warm_up_stays_within_the_window(sittings):
    found = split(sittings, cut=CUT, until=at(6), min_history=2, behaviors={"buy"}, warm_up=2)
    assert truth(found) == {"newcomer": {"d"}, "regular": {"c"}}
    with_less = split(sittings, cut=CUT, until=at(5), min_history=2, warm_up=2)
    assert set(truth(with_less)) == {"regular"}


def test_a_sample_counts_the_warmed_up_users_that_it_keeps(sittings):
    whole = split(sittings, cut=CUT, min_history=2, warm_up=1)
    drawn = sample(whole, limit=1, seed=0)
    kept = drawn.judgements[0].user_id
    assert drawn.counts["num_warmed_up"] == (kept != "regular")
    assert drawn.num_not_sampled == 2


def test_a_warm_up_without_events_is_refused(sittings):
    with pytest.raises(ValueError, match="warm_up counts events and must be at least 1, got 0"):
        split(sittings, cut=CUT, warm_up=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cut": CUT.replace(tzinfo=None)}, "time zone"),
        ({"until": CUT}, "before it begins"),
    ],
)
def test_a_senseless_window_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        split(table(("u", "a", "buy", None, AFTER)), **({"cut": CUT} | change))


def test_events_without_a_time_or_a_column_are_refused():
    with pytest.raises(ValueError, match="1 of 1 interactions have no timestamp"):
        split(table(("u", "a", "buy", None, None)), cut=CUT)
    with pytest.raises(ValueError, match=r"lack the columns \['weight'\]"):
        split(table(("u", "a", "buy", None, AFTER)).drop_columns(["weight"]), cut=CUT)


def test_a_sample_keeps_the_order_repeats_by_seed_and_counts_the_rest():
    rows = [(f"u{n:02d}", "h", "buy", None, BEFORE) for n in range(50)]
    rows += [(f"u{n:02d}", "a", "buy", None, AFTER) for n in range(50)]
    whole = split(table(*rows), cut=CUT)
    drawn = sample(whole, limit=20, seed=1)
    users = [one.user_id for one in drawn.judgements]
    assert len(users) == 20
    assert users == sorted(users)
    assert drawn == sample(whole, limit=20, seed=1)
    assert drawn != sample(whole, limit=20, seed=2)
    assert drawn.num_not_sampled == 30
    assert sample(whole, limit=50, seed=1) is whole


def read_movielens(shared_data):
    """Its events, and the moment after four fifths of them."""
    events = pq.read_table(shared_data / "movielens" / "interactions.parquet")
    events = events.rename_columns({"rating": "weight"})
    times = np.sort(events["timestamp"].to_numpy())
    cut = times[int(0.8 * len(times))].astype("datetime64[us]").item().replace(tzinfo=UTC)
    return events, cut


@pytest.mark.shared_data
def test_a_real_log_is_split_without_a_leak(shared_data):
    events, cut = read_movielens(shared_data)
    found = split(events, cut=cut, min_weight=4)
    before = events.filter(pc.less(events["timestamp"], pa.scalar(cut)))
    met = set(zip(before["user_id"].to_pylist(), before["item_id"].to_pylist(), strict=True))
    judged = {(one.user_id, item) for one in found.judgements for item in one.item_ids}
    assert judged
    assert not judged & met
    counts = found.counts
    left_out = sum(n for name, n in counts.items() if "without" in name)
    assert counts["num_users_after"] == len(found.judgements) + left_out


@pytest.mark.shared_data
def test_a_warm_up_judges_many_more_users_of_a_log_of_single_sittings(shared_data):
    events, cut = read_movielens(shared_data)
    plain = split(events, cut=cut, min_weight=4, min_history=5)
    warm = split(events, cut=cut, min_weight=4, min_history=5, warm_up=10)
    asked_at_the_cut = {one for one in warm.judgements if one.as_of == cut}
    assert asked_at_the_cut == set(plain.judgements)
    assert warm.num_warmed_up > len(plain.judgements)
    seen = seen_before(events, warm.judgements)
    for one in warm.judgements:
        assert not one.item_ids & seen[one.user_id]
        assert one.as_of == cut or len(seen[one.user_id]) >= 10
