"""What the benchmark measures with, on a small world of two tastes, through its own functions."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space
from retrieval.concatenated import concatenate

ITEMS, USERS, EVENTS = 64, 40, 8


@pytest.fixture(scope="module")
def modules(benchmark_modules: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return benchmark_modules(
        games="_games",
        lists="_games_lists",
        ranker="_games_ranker",
        recall="games_recall",
        rerank="games_rerank",
    )


@pytest.fixture(scope="module")
def folder(modules: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in the layout of `games`: even users take even items, odd users odd ones."""
    folder = tmp_path_factory.mktemp("games")
    random = np.random.default_rng(0)
    ids = [f"i{row:02}" for row in range(ITEMS)]
    titles = [f"{'space' if row % 2 else 'farm'} game {row}" for row in range(ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "title": titles}), folder / "items.parquet")
    rows = []
    lists: dict[str, list[str]] = {}
    for user in range(USERS):
        own = random.permutation(np.arange(user % 2, ITEMS, 2))[:EVENTS]
        splits = ["train"] * (EVENTS - 2) + ["valid", "test"]
        for position, (row, split) in enumerate(zip(own.tolist(), splits, strict=True)):
            rows.append((f"u{user:02}", ids[row], "review", position, split))
        others = random.permutation(ITEMS)[:30].tolist()
        lists[f"u{user:02}"] = [ids[row] for row in dict.fromkeys([*others, int(own[-1])])]
    names = ("user_id", "item_id", "behavior", "position", "split")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    empty = pa.nulls(len(table), pa.timestamp("us", tz="UTC"))
    table = table.set_column(3, "position", table["position"].cast(pa.int32()))
    pq.write_table(table.append_column("timestamp", empty), folder / "interactions.parquet")
    listed = pa.table({"user_id": list(lists), "item_ids": list(lists.values())})
    for name, count in (("candidates", USERS), ("candidates_sample200", 10)):
        (folder / name).mkdir()
        for route in modules.games.ROUTES:
            pq.write_table(listed.slice(0, count), folder / name / f"{route}.parquet")
    return folder


@pytest.fixture(scope="module")
def world(
    modules: SimpleNamespace, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The set loaded, with vectors that tell the tastes apart."""
    games = modules.games.load(folder)
    vectors_ND = np.random.default_rng(1).normal(size=(ITEMS, 8)).astype(np.float32)
    vectors_ND[:, 0] += np.where(np.arange(ITEMS) % 2, 3, -3)
    text = Embeddings(
        space=Space(
            modality=Modality.TEXT, encoder="words", revision="1", dim=8, is_normalized=False
        ),
        item_ids=games.item_ids,
        vectors_ND=vectors_ND,
    )
    kept = tmp_path_factory.mktemp("kept")
    return modules.rerank.World(
        games=games,
        titles=concatenate([text], item_ids=games.item_ids),
        is_quick=True,
        kept=kept,
        held=10,
        checked=10,
    )


@pytest.fixture
def kept_here(
    modules: SimpleNamespace, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retriever's models are kept beside the ranker's."""
    monkeypatch.setattr(modules.recall, "CACHE", world.kept)


def test_places_count_among_the_items_asked_for(modules: SimpleNamespace) -> None:
    rows = [np.array([1, 3, 5, 7]), np.array([2, 4])]
    lists = modules.lists.joined(
        tuple("abcdefgh"),
        [np.array([0]), np.array([0])],
        np.array([5, 4]),
        [(one, np.zeros((len(one), modules.lists.WIDTH), np.float32)) for one in rows],
    )
    scores = np.array([0.9, 0.5, 0.5, 0.1, 0.3, 0.2], dtype=np.float32)
    places = modules.rerank.places_in(lists, scores, [np.array([5, 3, 7]), np.array([2, 4])])
    assert places.tolist() == [1, 1]  # 3 is worth as much as 5 and comes before it; 1 is not asked
    assert modules.rerank.places_in(lists, scores, [np.array([7, 5]), None])[0] == 0
    assert modules.rerank.places_in(lists, scores, [None, None]).min() == modules.rerank.ABSENT


@pytest.mark.usefixtures("kept_here")
def test_what_is_found_is_what_the_retriever_scores(
    modules: SimpleNamespace, world: SimpleNamespace
) -> None:
    finder = world.finder("valid", 0)
    histories = world.games.histories("valid")[:3]
    (found,) = finder.blocks(histories)
    rows = np.array([0, 5, 9])
    blocks = modules.lists.BLOCKS
    findings = dict(
        zip(
            [*blocks, *(f"{name} support" for name in blocks), "score"],
            found.of(1, rows).T,
            strict=True,
        )
    )
    assert findings["score"] == pytest.approx(found.signals["fused"][1, rows])
    assert findings["text"] == pytest.approx(found.signals["text"][1, rows])
    # A support is the mean cosine with single items, the newest weighing most.
    titles = world.titles.block("text")
    weights = 0.5 ** (np.arange(len(histories[1]))[::-1] / modules.recall.HALF_LIFE)
    cosines = titles[rows] @ titles[histories[1]].T
    expected = cosines @ weights / weights.sum()
    assert findings["text support"] == pytest.approx(expected, abs=1e-5)
    for query, best in enumerate(found.best("fused", 100)):
        assert not set(best.tolist()) & set(histories[query].tolist())
        scores = found.signals["fused"][query, best]
        assert (np.diff(scores) <= 0).all()


@pytest.mark.usefixtures("kept_here")
def test_training_lists_hold_their_target_and_no_history(
    modules: SimpleNamespace, world: SimpleNamespace
) -> None:
    lists, held = world.lists()
    assert 0 < len(lists) <= USERS - 20
    assert 0 < len(held) <= 10
    for place in range(len(lists)):
        example = lists[place]
        met = {event.item_id for event in example.query.history or ()}
        found = [candidate.item_id for candidate in example.candidates]
        assert example.chosen < set(found)
        assert not met & set(found)
        scores = [candidate.score for candidate in example.candidates]
        assert scores == sorted(scores, reverse=True)
    with pytest.raises(IndexError):
        lists[len(lists)]


@pytest.mark.slow
@pytest.mark.usefixtures("kept_here")
def test_a_seed_is_measured_end_to_end_and_kept(
    modules: SimpleNamespace, world: SimpleNamespace
) -> None:
    config = modules.ranker.quick(modules.ranker.CONFIG)
    places = modules.rerank.measured(world, config, 0)
    for name in (*modules.games.ROUTES, modules.rerank.OWN):
        for system in modules.rerank.SYSTEMS:
            assert places[name][system].shape == (USERS,)
    stored = modules.games.ndcg_at(places["sasrec"]["order"], 10).mean()
    ours = modules.games.ndcg_at(places["sasrec"]["reranked"], 10).mean()
    assert ours > stored  # chance against taste
    small = places[modules.rerank.SMALL]["reranked"]
    assert (small < 20).sum() == 10
    assert (small == modules.rerank.ABSENT).sum() == USERS - 10
    again = modules.rerank.measured(world, config, 0)
    assert again[modules.rerank.OWN]["reranked"].tolist() == (
        places[modules.rerank.OWN]["reranked"].tolist()
    )
    told = modules.rerank.figures_of([places, again])
    assert told["ndcg_at_10"][0]["median"] == pytest.approx(ours)
    gain, _ = told["delta_ndcg_at_10_over_sasrec"]
    assert gain["median"] == pytest.approx(ours - stored)
    assert gain["low"] <= gain["median"] <= gain["high"]
    assert told["delta_ndcg_at_10_over_own_retriever_score"][0]["median"] == pytest.approx(
        ours - told["retriever_ndcg_at_10"][0]["median"]
    )


@pytest.mark.slow
@pytest.mark.usefixtures("kept_here")
def test_choosing_looks_at_users_whom_nothing_was_fitted_on(
    modules: SimpleNamespace, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, held, checked = map(set, world.parts())
    assert len(trained | held | checked) == len(trained) + len(held) + len(checked)
    modules.rerank.choose(world, modules.ranker.quick(modules.ranker.CONFIG))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("valid, ")]
    systems = [line.split(":")[0].removeprefix("valid, ") for line in said if "NDCG@10" in line]
    assert systems == [
        f"{name}, {system}" for name in ("own", "another") for system in modules.rerank.SYSTEMS
    ]
    own = [line for line in said if line.startswith(("valid, own, order", "valid, own, retriever"))]
    assert len({line.split("NDCG@10 ")[1][:6] for line in own}) == 1  # it is its own order
