"""What the benchmark measures with: histories, stored lists, places, and BM25 on titles."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.metrics import ndcg


@pytest.fixture(scope="module")
def modules(benchmark_modules: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return benchmark_modules(
        games="_games",
        published="_games_published",
        signals="_games_signals",
        recall="games_recall",
    )


def test_places_count_from_0_and_ties_fall_by_row(modules: SimpleNamespace) -> None:
    scores = np.array([[0.5, 0.9, 0.5, 0.1], [0.5, 0.9, 0.5, 0.1]], dtype=np.float32)
    assert modules.games.ranks_in(scores, np.array([0, 2])).tolist() == [1, 2]


def test_what_is_hidden_leaves_its_place_in_a_stored_list(modules: SimpleNamespace) -> None:
    lists, hidden = [np.array([4, 3, 2, 1])] * 3, [np.array([4, 2])] * 3
    ranks = modules.games.ranks_of(lists, np.array([1, 3, 9]), hidden=hidden)
    assert ranks.tolist() == [1, 0, np.iinfo(np.int64).max]
    assert modules.games.ranks_of(lists, np.array([1, 3, 9])).tolist()[:2] == [3, 1]


def test_ndcg_is_that_of_the_evaluation(modules: SimpleNamespace) -> None:
    names = [f"{place:02}" for place in range(20)]
    ours = modules.games.ndcg_at(np.arange(20), 10)
    assert ours == pytest.approx([ndcg(names, {name}, 10) for name in names])


def test_bm25_answers_rare_words_first(modules: SimpleNamespace) -> None:
    titles = ["the red zelda game", "the red game", "the blue game", "the"]
    scorer = modules.published.Bm25(titles)
    query = modules.published.Counter(modules.published.words_of("The Zelda!"))
    scores = [scorer.score(query, row) for row in range(4)]
    assert scores[0] > max(scores[1:])
    assert scores[3] > scores[1] == pytest.approx(scores[2])  # a shorter title, the same word


def test_neighbors_answer_what_others_had_with_it(modules: SimpleNamespace) -> None:
    histories = [np.array(one) for one in ([0, 1, 2], [0, 1], [3, 4], [4, 0])]
    logits = modules.signals.Neighbors(histories * 30, num_items=60).logits([np.array([0])])
    near, following = logits["near"][0], logits["next"][0]
    assert np.argsort(-near)[:1].tolist() == [1]
    assert near[4] > near[3] == near[5]
    assert following[4] == following[5] < following[1]  # 4 came before 0, never after it
    assert logits["near the near"][0, 3] > logits["near the near"][0, 5]


def test_the_stored_routes_measure_as_the_set_says(
    modules: SimpleNamespace, shared_data: Path
) -> None:
    games = modules.games.load(shared_data / "games")
    users, stored = modules.recall.routes(games)
    assert len(users) == 6000
    recall = {
        route: modules.games.recall_at(places["raw"], 100).mean()
        for route, places in stored.items()
    }
    said = {
        "random": 0.0055,
        "bm25": 0.1068,
        "bert": 0.0347,
        "pop": 0.0847,
        "bpr": 0.2262,
        "gru4rec": 0.3077,
        "sasrec": 0.3235,
    }
    assert recall == pytest.approx(said, abs=5e-5)
    removed = stored["sasrec"]["removed"]
    assert modules.games.ndcg_at(removed, 10).mean() == pytest.approx(0.0614, abs=5e-5)
    ours = modules.published.published(games, seed=0)
    pop, bm25 = (100 * modules.games.ndcg_at(ours[name], 10).mean() for name in ("Pop", "BM25"))
    assert pop == pytest.approx(modules.published.PUBLISHED["Pop"][2], abs=5)
    assert 20 < bm25 < 60
    print(f"Pop {pop:.2f}, BM25 {bm25:.2f}")
