"""A catalog on a split's clock: its items are there from the start, its store keeps one clock."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.catalog import Catalog, read
from embedders.columns import Columns
from sommelier.ordered_catalog import keep_one_clock, ordered
from sommelier.settings import TargetSettings, TimeSettings
from sommelier.state import State
from sommelier.timeline import timeline

GIVEN = TimeSettings(split="given")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    folder = tmp_path / "catalog"
    folder.mkdir()
    items = [{"item_id": one, "title": one, "created_at": "2024-05-01"} for one in "abcd"]
    events = [
        {"user_id": "u", "item_id": item, "behavior": "buy", "split": split, "position": place}
        for place, (item, split) in enumerate(
            [("a", "train"), ("b", "train"), ("c", "valid"), ("d", "test")]
        )
    ]
    edges = [{"item_id": "a", "other_item_id": "b", "timestamp": "2024-05-01"}]
    for name, rows in (("items", items), ("interactions", events), ("item_edges", edges)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read(folder)


def test_a_split_of_time_leaves_the_catalog_as_it_is(catalog: Catalog) -> None:
    assert ordered(catalog, TimeSettings(), TargetSettings()) is catalog


def test_real_times_of_items_and_edges_cannot_hide_them_on_another_clock(catalog: Catalog) -> None:
    found = ordered(catalog, GIVEN, TargetSettings())
    assert {one.created_at for one in catalog.items()} == {datetime(2024, 5, 1, tzinfo=UTC)}
    assert {one.created_at for one in found.items()} == {None}
    assert found.item_edges["timestamp"].to_pylist() == [None]
    assert found.fingerprint == catalog.fingerprint


def test_the_timeline_lies_on_the_borders_of_the_bands(catalog: Catalog) -> None:
    line = timeline(ordered(catalog, GIVEN, TargetSettings()).interactions, GIVEN)
    counts = (line.num_graph_events, line.num_ranker_events, line.num_judged_events)
    assert counts == (2, 1, 1)
    assert line.graph_until < line.cut


def test_everything_may_be_learned_from_on_any_clock(catalog: Catalog) -> None:
    whole = TimeSettings(split="given", cut="end")
    line = timeline(ordered(catalog, whole, TargetSettings()).interactions, whole)
    assert line.is_open
    assert (line.num_graph_events, line.num_ranker_events) == (2, 2)


def test_a_user_wise_split_asks_for_the_targets_behaviors(catalog: Catalog) -> None:
    user = TimeSettings(split="user")
    found = ordered(catalog, user, TargetSettings(behaviors=("buy",)))
    assert found.interactions["split"].to_pylist() == ["train", "train", "valid", "test"]
    with pytest.raises(ValueError, match="4 events are train and 0 valid"):
        ordered(catalog, user, TargetSettings(behaviors=("read",)))


def test_one_store_keeps_one_clock(catalog: Catalog, tmp_path: Path) -> None:
    state = State(tmp_path)
    events = ordered(catalog, GIVEN, TargetSettings()).interactions
    keep_one_clock(state, GIVEN, events)
    keep_one_clock(state, GIVEN, events)
    with pytest.raises(ValueError, match="histories of the split 'given', and those of 'time'"):
        keep_one_clock(state, TimeSettings(), events)
    with pytest.raises(ValueError, match="another clock"):
        keep_one_clock(state, GIVEN, events.slice(1))


def test_real_time_may_go_on_in_one_store(catalog: Catalog, tmp_path: Path) -> None:
    state = State(tmp_path)
    keep_one_clock(state, TimeSettings(), catalog.interactions.slice(1))
    keep_one_clock(state, TimeSettings(), catalog.interactions)


def test_a_store_from_before_there_were_splits_holds_real_time(
    catalog: Catalog, tmp_path: Path
) -> None:
    state = State(tmp_path)
    state.write("embed", {"spaces": []})
    keep_one_clock(state, TimeSettings(), catalog.interactions)
    with pytest.raises(ValueError, match="name another folder in"):
        keep_one_clock(State(tmp_path), GIVEN, catalog.interactions)


SIZES = {
    "games": (339_172, 50_546, 50_546),
    "lastfm": (44_327, 4_799, 7_219),
}


@pytest.mark.parametrize("data_set", ["games", "lastfm"])
def test_the_shared_sets_keep_their_own_split_as_a_timeline(
    shared_data: Path, data_set: str
) -> None:
    columns = Columns(description=("title",))
    found = ordered(read(shared_data / data_set, columns=columns), GIVEN, TargetSettings())
    line = timeline(found.interactions, GIVEN)
    counts = (line.num_graph_events, line.num_ranker_events, line.num_judged_events)
    assert counts == SIZES[data_set]


def test_movielens_has_a_timeline_for_each_users_last_choice(shared_data: Path) -> None:
    user, target = TimeSettings(split="user"), TargetSettings(min_weight=4.0)
    found = ordered(read(shared_data / "movielens"), user, target)
    line = timeline(found.interactions, user)
    counts = (line.num_graph_events, line.num_ranker_events, line.num_judged_events)
    assert sum(counts) == 100_836
    assert min(counts) > 600
    assert line.cut.year == 1970
