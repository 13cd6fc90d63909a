"""What the benchmark rests on: no choice leaks, lists are the same for all, variants differ in
what their names say."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.concatenated import concatenate

START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def modules(benchmark_modules: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return benchmark_modules(
        measures="_tmf_measures",
        models="_tmf_models",
        sets="_tmf_sets",
        worlds="_tmf_worlds",
        main="tmf_ablation",
    )


def rated(count: int) -> list[dict[str, object]]:
    """Ratings in time, every second one of 4 stars or more."""
    return [
        {
            "item_id": f"i{n:03}",
            "behavior": "rate",
            "weight": 4.5 if n % 2 else 2.0,
            "timestamp": START + timedelta(minutes=n),
            "place": n,
        }
        for n in range(count)
    ]


def listened(train: int, valid: int, test: int) -> list[dict[str, object]]:
    """Events of given bands, without order."""
    bands = ["train"] * train + ["valid"] * valid + ["test"] * test
    return [
        {"item_id": f"i{n:03}", "behavior": "listen", "weight": None, "split": band, "place": n}
        for n, band in enumerate(bands)
    ]


def test_raters_are_asked_for_what_came_after_their_history(modules: SimpleNamespace) -> None:
    divided = modules.sets._in_time("u", rated(40)[::-1])
    assert divided.known == list(range(20))
    for one in (*divided.train, divided.valid, divided.test):
        assert max(event.item_id for event in one.history) < min(one.chosen)
    assert divided.valid.chosen == ("i033", "i035")
    assert divided.test.chosen == ("i037", "i039")


def test_no_moment_of_training_reaches_into_what_is_judged(modules: SimpleNamespace) -> None:
    divided = modules.sets._in_time("u", rated(40))
    judged = {*divided.valid.chosen, *divided.test.chosen}
    for one in divided.train:
        assert one.chosen
        assert not judged & {*one.chosen, *one.met}  # a later choice may be drawn as a negative
        assert not {f"i{n:03}" for n in divided.known} & set(one.chosen)


def test_who_rated_little_is_left_out(modules: SimpleNamespace) -> None:
    assert modules.sets._in_time("u", rated(9)) is None
    assert modules.sets._in_time("u", rated(10)) is not None


def test_a_fifth_of_the_given_train_is_hidden_from_the_graph_and_learned_from(
    modules: SimpleNamespace,
) -> None:
    divided = modules.sets._as_given("u", listened(20, 3, 4))
    known = {f"i{n:03}" for n in divided.known}
    assert len(known) == 16
    assert len(divided.train) == modules.sets.RETELLINGS
    for one in divided.train:
        assert len(one.chosen) == 4
        assert not known & set(one.chosen)
        assert {event.item_id for event in one.history} <= known
        assert one.met == {f"i{n:03}" for n in range(20)}


def test_given_bands_are_asked_with_all_before_them(modules: SimpleNamespace) -> None:
    divided = modules.sets._as_given("u", listened(20, 3, 4))
    assert {event.item_id for event in divided.valid.history} == {f"i{n:03}" for n in range(20)}
    assert divided.valid.chosen == ("i020", "i021", "i022")
    assert {event.item_id for event in divided.test.history} == {f"i{n:03}" for n in range(23)}
    assert divided.test.chosen == ("i023", "i024", "i025", "i026")


def test_a_short_list_is_a_choice_first_and_nineteen_that_the_user_never_met(
    modules: SimpleNamespace,
) -> None:
    divided = modules.sets._as_given("u", listened(20, 3, 4))
    catalog = [f"i{n:03}" for n in range(60)]
    (lists,) = modules.sets.short_lists([divided.test], catalog)
    assert len(lists) == modules.sets.MOST_LISTS
    assert lists == modules.sets.short_lists([divided.test], catalog)[0]
    for one in lists:
        assert one[0] in divided.test.chosen
        assert len(set(one)) == 20
        assert not divided.test.met & set(one[1:])


def test_equal_scores_hit_by_chance_and_what_was_not_found_is_missed(
    modules: SimpleNamespace,
) -> None:
    asked = [
        modules.sets.Asked(user_id=name, history=(), chosen=("a", "b"), met=frozenset("ab"))
        for name in ("u", "v")
    ]
    lists = [[("a", "x", "y", "z")], [("b", "x", "y", "z")]]
    found = {"u": ["z", "a"]}
    scores = {"a": 1.0, "b": 0.5, "x": 0.5, "y": 0.0, "z": 0.0}
    made = modules.measures.measure(asked, lists, lambda _, ids: scores, found=found)
    assert made.hr_U == pytest.approx([1.0, 0.5])
    assert made.ndcg_U == pytest.approx([1 / (1 + 1 / np.log2(3))])


def test_an_absent_modality_leaves_nothing_of_its_vectors(modules: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    parts = [
        Embeddings(
            space=Space(modality=modality, encoder="made", revision="1", dim=4),
            item_ids=["a", "b", "c"],
            vectors_ND=normalize(rng.normal(size=(3, 4))),
        )
        for modality in (Modality.AUDIO, Modality.TEXT)
    ]
    items = concatenate(parts)
    left = modules.worlds.without(items, frozenset({"audio"}))
    assert not left.block("audio").any()
    assert not left.is_present("audio").any()
    assert np.array_equal(left.block("text"), items.block("text"))
    assert items.is_present("audio").all()


def test_vectors_come_back_as_they_were_kept(modules: SimpleNamespace, tmp_path: Path) -> None:
    made = Embeddings(
        space=Space(modality=Modality.GRAPH, encoder="made", revision="1", dim=2),
        item_ids=["b", "a"],
        vectors_ND=np.eye(2, dtype=np.float32),
    )
    modules.worlds._keep(tmp_path / "g.safetensors", made)
    kept = modules.worlds._kept(tmp_path / "g.safetensors")
    assert kept.space == made.space
    assert list(kept.item_ids) == ["b", "a"]
    assert np.array_equal(kept.vectors_ND, made.vectors_ND)


def test_every_variant_trains_as_long_and_differs_in_what_it_says(
    modules: SimpleNamespace,
) -> None:
    made = {
        name: modules.models.config_of("movielens", variant, seed=3)
        for name, variant in modules.models.VARIANTS.items()
    }
    steps = {
        one.training.single_modality_steps + one.training.fusion_steps for one in made.values()
    }
    assert len(steps) == 1
    assert {one.training.seed for one in made.values()} == {3}
    assert [name for name, one in made.items() if one.has_evidence] == ["system"]
    assert not made["no_cma"].fusion.has_cross_attention
    assert made["no_cma"].fusion.has_self_attention
    assert not made["no_amsa"].fusion.has_self_attention
    assert made["tokens_8"].fusion.num_tokens == 8
    assert (made["titles"].prompt.history, made["both"].prompt.candidates) == ("titles", "both")


def test_every_part_of_the_modalities_is_taken_away_once(modules: SimpleNamespace) -> None:
    taken = list(modules.main.subsets(["audio", "graph", "text"]))
    assert len(taken) == len(set(taken)) == 6
    assert frozenset({"audio"}) in taken
    assert frozenset({"audio", "graph", "text"}) not in taken


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["lastfm", "movielens"])
def test_the_graph_knows_no_choice_of_the_real_sets(
    modules: SimpleNamespace, shared_data: Path, name: str
) -> None:
    moments = modules.sets.load(shared_data / name)
    table = moments.graph_events.select(["user_id", "item_id"])
    known = set(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))
    for one in (*moments.train, *moments.valid, *moments.test):
        assert not known & {(one.user_id, item_id) for item_id in one.chosen}
        assert not {event.item_id for event in one.history} & set(one.chosen)


def test_tokens_spread_along_as_many_directions_as_items_differ_in(
    modules: SimpleNamespace,
) -> None:
    rng = np.random.default_rng(0)
    line_N1 = rng.normal(size=(400, 1)).astype(np.float32)
    along_a_line_ND = 3 + line_N1 * np.linspace(1, 2, 8, dtype=np.float32)
    assert modules.measures.spread(along_a_line_ND) == pytest.approx(1)
    everywhere_ND = rng.normal(size=(4000, 8)).astype(np.float32)
    assert 7.5 < modules.measures.spread(everywhere_ND) <= 8


def test_another_learning_rate_changes_that_alone(modules: SimpleNamespace) -> None:
    nothing = modules.sets.Moments(
        catalog=None, item_ids=("a",), graph_events=None, train=(), valid=(), test=()
    )
    given = {"name": "lastfm", "seed": 3, "moments": nothing, "split": "valid", "num_retrieved": 0}
    usual = modules.main.Bench(**given).config("fused")
    other = modules.main.Bench(**given, learning_rate=1e-4).config("fused")
    assert usual.training.learning_rate == modules.models.SETTINGS["lastfm"].learning_rate
    assert other.training == replace(usual.training, learning_rate=1e-4)
    assert replace(other, training=usual.training) == usual
