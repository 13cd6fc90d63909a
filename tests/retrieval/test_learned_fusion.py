"""A small model over lists, fitted in worlds where it is known what counts."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.base import UnusableIndex
from retrieval.fusion import Listed
from retrieval.learned_fusion import Learned, fit

BLOCKS = ("graph", "text")


def moment(seed: int, *, num_items: int = 40) -> Listed:
    random = np.random.default_rng(seed)
    cosines = random.normal(size=(num_items, 2))
    ranks = (-cosines).argsort(axis=0).argsort(axis=0) + 1
    return Listed(
        blocks=BLOCKS,
        ranks_KM=np.where(ranks <= 10, ranks, 0),
        cosines_KM=cosines,
        is_present_KM=random.random((num_items, 2)) < 0.9,
        scores_K=cosines.sum(axis=1),
    )


def chosen_by(listed: Listed, column: int, seed: int) -> np.ndarray:
    """Two items, drawn by how high their cosine in one block is."""
    chances = np.exp(3 * listed.cosines_KM[:, column])
    drawn = np.random.default_rng(seed).choice(
        len(chances), size=2, replace=False, p=chances / chances.sum()
    )
    return np.isin(np.arange(len(chances)), drawn)


def world(column: int = 1, *, start: int = 0) -> tuple[list[Listed], list[np.ndarray]]:
    moments = [moment(start + seed) for seed in range(60)]
    return moments, [chosen_by(one, column, start + n) for n, one in enumerate(moments)]


def mean_rank(scores: list[np.ndarray], chosen: list[np.ndarray]) -> float:
    ranks = [(-one).argsort().argsort()[is_chosen] for one, is_chosen in zip(scores, chosen)]  # noqa: B905
    return float(np.concatenate(ranks).mean())


def test_it_learns_which_block_counts_and_ranks_unseen_moments_better() -> None:
    model = fit(*world())
    assert model is not None
    moments, chosen = world(start=1000)
    learned = mean_rank([model.scores(one) for one in moments], chosen)
    assert learned < 0.7 * mean_rank([one.scores_K for one in moments], chosen)
    text, graph = (model.slopes[4 * BLOCKS.index(name)] for name in ("text", "graph"))
    assert text > graph


def test_equal_input_gives_equal_output_and_the_slopes_are_an_optimum() -> None:
    moments, chosen = world()
    model = fit(moments, chosen)
    assert model == fit(moments, chosen)
    assert model is not None
    again = fit(moments, chosen, penalty=1e6)
    assert again is not None
    np.testing.assert_allclose(again.slopes, [*[0.0] * 8, 1.0], atol=1e-4)


def test_an_items_score_does_not_depend_on_its_company() -> None:
    model = fit(*world())
    assert model is not None
    whole = moment(7)
    part = Listed(
        blocks=BLOCKS,
        ranks_KM=whole.ranks_KM[3:9],
        cosines_KM=whole.cosines_KM[3:9],
        is_present_KM=whole.is_present_KM[3:9],
        scores_K=whole.scores_K[3:9],
    )
    np.testing.assert_array_equal(model.scores(part), model.scores(whole)[3:9])


def test_a_block_that_a_query_lacks_adds_nothing_of_its_own() -> None:
    model = fit(*world())
    assert model is not None
    whole = moment(7)
    alone = Listed(
        blocks=("text",),
        ranks_KM=whole.ranks_KM[:, 1:],
        cosines_KM=whole.cosines_KM[:, 1:],
        is_present_KM=whole.is_present_KM[:, 1:],
        scores_K=whole.scores_K,
    )
    silent = Listed(
        blocks=BLOCKS,
        ranks_KM=whole.ranks_KM * [0, 1],
        cosines_KM=whole.cosines_KM * [0, 1],
        is_present_KM=whole.is_present_KM & np.array([False, True]),
        scores_K=whole.scores_K,
    )
    np.testing.assert_array_equal(model.scores(alone), model.scores(silent))


def test_moments_that_tell_nothing_give_no_model() -> None:
    one = moment(0)
    everything = np.ones(len(one.scores_K), dtype=bool)
    assert fit([], []) is None
    assert fit([one, one], [everything, ~everything]) is None


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    model = fit(*world())
    assert model is not None
    model.save(tmp_path / "models/fusion.json")
    assert Learned.load(tmp_path / "models/fusion.json") == model


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "blocks": ["x"]}']
)
def test_a_damaged_file_is_refused_with_what_to_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "fusion.json").write_text(text)
    with pytest.raises(UnusableIndex, match=r"is damaged .* run `sommelier train`"):
        Learned.load(tmp_path / "fusion.json")
    with pytest.raises(UnusableIndex, match="is missing"):
        Learned.load(tmp_path / "other.json")
