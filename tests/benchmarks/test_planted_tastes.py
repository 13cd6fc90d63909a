"""What counts as pointing at the planted modality, on rankings written by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedders.items import Modality
from ranker.ranking import Explanation, RankedItem, Ranking, Status
from retrieval.candidates import Query

TRAITS = {"picture": 0, "sound": 0, "words": 0, "circle": 0}
FOLDER = Path(__file__).parents[2] / "benchmarks"
NOTHING, LIKED = [0.0] * 8, [0.0, 1.5, *[0.0] * 6]


@pytest.fixture(scope="module")
def planted() -> Any:
    """The benchmark, found as when it runs as a script."""
    sys.path.insert(0, str(FOLDER))
    try:
        import planted_tastes
    finally:
        sys.path.remove(str(FOLDER))
    return planted_tastes


@pytest.fixture
def truth(planted: Any, tmp_path: Path) -> Any:
    """`a` and `b` have the value that everybody likes, in every trait; `c` in none."""
    facts = {
        "traits": {"a": dict.fromkeys(TRAITS, 1), "b": dict.fromkeys(TRAITS, 1), "c": TRAITS},
        "tastes": {
            "looker": [LIKED, NOTHING, NOTHING, NOTHING],
            "buyer": [NOTHING, NOTHING, NOTHING, LIKED],
        },
    }
    (tmp_path / "truth.json").write_text(json.dumps(facts))
    return planted.Truth.read(tmp_path)


def item(item_id: str, *present: Modality, **contributions: float) -> RankedItem:
    return RankedItem(
        item_id=item_id,
        rank=1,
        score=0.0,
        logit=0.0,
        status=Status.OK,
        retrieval_rank=1,
        retrieval_score=0.0,
        present=present,
        explanation=Explanation(base=0.0, contributions=contributions),
    )


@pytest.fixture
def hits(planted: Any, truth: Any) -> Any:
    def found(user_id: str, *items: RankedItem, is_strict: bool = False) -> dict[str, list[float]]:
        ranking = Ranking(items=items, generation_id="g", judged_by="llm")
        query = Query(user_id=user_id)
        return dict(planted.hits(truth, [query], [ranking], is_strict=is_strict))

    return found


def test_a_user_cares_for_one_trait(truth: Any) -> None:
    assert (truth.trait("looker"), truth.trait("buyer")) == ("picture", "circle")
    assert truth.likes_item("looker", "a")
    assert not truth.likes_item("looker", "c")


def test_a_picture_is_hit_among_content_and_missed_where_the_graph_counts(hits: Any) -> None:
    first = item("a", Modality.IMAGE, image=0.3, text=0.1, graph=0.9)
    second = item("b", Modality.IMAGE, image=0.1, text=0.2, graph=0.0)
    assert hits("looker", first, second) == {"picture": [0.5]}
    assert hits("looker", first, second, is_strict=True) == {"picture": [0.0]}


def test_a_circle_is_hit_by_the_graph_or_the_network(hits: Any) -> None:
    first = item("a", Modality.GRAPH, graph=0.1, sequence=0.4, text=0.3)
    assert hits("buyer", first) == {"circle": [1.0]}
    second = item("a", Modality.GRAPH, graph=0.1, sequence=0.2, text=0.3)
    assert hits("buyer", second) == {"circle": [0.0]}


def test_only_liked_items_that_show_the_trait_are_looked_at(hits: Any) -> None:
    unseen = item("a", Modality.TEXT, text=0.5)
    unliked = item("c", Modality.IMAGE, image=0.5)
    assert hits("looker", unseen, unliked) == {}


def test_a_taste_is_recovered_by_all_liked_items_that_were_not_met(
    planted: Any, truth: Any
) -> None:
    ranking = Ranking(
        items=(item("c", Modality.IMAGE), item("b", Modality.IMAGE), item("a", Modality.IMAGE)),
        generation_id="g",
        judged_by="llm",
    )
    asked = [Query(user_id="looker", exclude=frozenset({"a"})), Query(user_id="buyer")]
    values = planted.recovered(truth, asked, [ranking, ranking], "picture")
    np.testing.assert_allclose(values, [1 / np.log2(3)])
