"""A generation ranks what a request brings: vectors, filters, and what happened a moment ago."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings
from ranker.inline import InlineVectors
from ranker.loaded import LoadedGeneration, load
from ranker.ranking import RankedItem, Ranking, Status
from retrieval.candidates import Query
from retrieval.filters import Filter
from tests.ranker import model_world
from tests.ranker.shop_world import ANN, CUT, ITEMS, Shop

INLINE = Query(history=model_world.history("item-02", "item-12", "item-33"), as_of=CUT)
ASKED = ["item-05", "item-20", "item-21", model_world.BARE, "new"]
TOLERANCE = {"rel": 1e-4, "abs": 1e-5}


@pytest.fixture(scope="module")
def loaded(shop: Shop) -> LoadedGeneration:
    return load(shop.generations, store=shop.store)


def raw(item_id: str, modality: Modality, *, named: str | None = None) -> Embeddings:
    """The vector of unit length from which an item's centered one was made, perhaps renamed."""
    center_D = ITEMS.centers_D[ITEMS.columns_of[modality]].astype(float)
    unit_D = ITEMS.block(modality)[ITEMS.row_of[item_id]].astype(float)
    along = center_D @ unit_D
    length = -along + np.sqrt(along**2 + 1 - center_D @ center_D)
    vector_D = (center_D + length * unit_D).astype(np.float32)
    return Embeddings(
        space=ITEMS.space(modality), item_ids=[named or item_id], vectors_ND=vector_D[None]
    )


def all_of(item_id: str, *, named: str | None = None) -> InlineVectors:
    parts = (raw(item_id, one, named=named) for one in ITEMS.modalities)
    return InlineVectors(embeddings=tuple(parts))


def ranked(
    loaded: LoadedGeneration, vectors: InlineVectors | None, *, num_explained: int = 0
) -> Ranking:
    candidates = loaded.score(INLINE, ASKED, vectors=vectors)
    return loaded.rerank(INLINE, candidates, num_explained=num_explained, vectors=vectors)


def by_id(ranking: Ranking) -> dict[str, RankedItem]:
    return {one.item_id: one for one in ranking.items}


def test_an_items_own_vectors_change_nothing(loaded: LoadedGeneration) -> None:
    plain, brought = by_id(ranked(loaded, None)), by_id(ranked(loaded, all_of("item-20")))
    assert plain.keys() == brought.keys()
    for item_id, item in plain.items():
        assert brought[item_id].score == pytest.approx(item.score, **TOLERANCE)
        assert brought[item_id].logit == pytest.approx(item.logit, **TOLERANCE)
        assert brought[item_id].present == item.present


def test_an_item_that_nobody_holds_is_ranked_by_what_it_brings(loaded: LoadedGeneration) -> None:
    found = by_id(ranked(loaded, all_of("item-20", named="new")))
    assert found["new"].status is Status.OK
    assert found["new"].present == ITEMS.modalities
    assert found["new"].retrieval_score == pytest.approx(found["item-20"].retrieval_score)
    assert found["new"].logit == pytest.approx(found["item-20"].logit, **TOLERANCE)
    assert "new" not in by_id(ranked(loaded, None)), "it is forgotten with the request"


def test_other_vectors_move_an_item_and_its_other_blocks_stay(loaded: LoadedGeneration) -> None:
    other = raw("item-21", Modality.AUDIO, named="item-20")
    found = by_id(ranked(loaded, InlineVectors(embeddings=(other,))))
    plain = by_id(ranked(loaded, None))
    assert found["item-20"].logit != pytest.approx(plain["item-20"].logit, rel=1e-3)
    assert found["item-20"].present == plain["item-20"].present
    assert found["item-21"].score == pytest.approx(plain["item-21"].score, **TOLERANCE)
    (candidate,) = loaded.score(INLINE, ["item-20"], vectors=InlineVectors(embeddings=(other,)))
    held = {one.item_id: one.evidence for one in loaded.score(INLINE, ["item-20", "item-21"])}
    assert candidate.evidence["audio"] == pytest.approx(held["item-21"]["audio"])
    assert candidate.evidence["text"] == held["item-20"]["text"]


def test_a_bare_item_is_one_of_those_it_brings(loaded: LoadedGeneration) -> None:
    sound = raw("item-20", Modality.AUDIO, named=model_world.BARE)
    found = by_id(ranked(loaded, InlineVectors(embeddings=(sound,))))[model_world.BARE]
    assert (found.status, found.present) == (Status.OK, (Modality.AUDIO,))


def test_the_order_of_the_items_changes_no_bit(loaded: LoadedGeneration) -> None:
    vectors = all_of("item-20", named="new")
    turned = replace(vectors, embeddings=vectors.embeddings[::-1])
    candidates = loaded.score(INLINE, ASKED[::-1], vectors=turned)
    assert loaded.rerank(INLINE, candidates[::-1], vectors=turned) == ranked(loaded, vectors)


def test_what_was_brought_is_explained_and_adds_up(loaded: LoadedGeneration) -> None:
    sound = InlineVectors(embeddings=(raw("item-20", Modality.AUDIO, named="new"),))
    found = by_id(ranked(loaded, sound, num_explained=5))
    explanation = found["new"].explanation
    assert explanation is not None
    assert explanation.contributions["text"] == 0
    assert explanation.contributions["audio"] != 0
    whole = explanation.base + sum(explanation.contributions.values())
    assert whole == pytest.approx(found["new"].score)


def test_the_last_step_is_the_whole_answer(loaded: LoadedGeneration) -> None:
    vectors = all_of("item-20", named="new")
    candidates = loaded.score(INLINE, ASKED, vectors=vectors)
    first, *_, last = loaded.refine(INLINE, candidates, vectors=vectors)
    assert {one.status for one in first.items} == {Status.NOT_SCORED}
    assert last == ranked(loaded, vectors)


def test_a_filter_leaves_out_what_it_excludes(loaded: LoadedGeneration) -> None:
    filters = Filter.parse(["price<=20"], deny=["item-05"])
    query, vectors = replace(INLINE, filters=filters), all_of("item-20", named="new")
    found = loaded.score(query, ASKED, vectors=vectors)
    assert [one.item_id for one in found] == ["item-20"], "a new item has no price"
    by_name = replace(query, filters=Filter.parse([], allow=["new", "item-21"]))
    found = loaded.score(by_name, ASKED, vectors=vectors)
    assert {one.item_id for one in found} == {"new", "item-21"}


def test_recent_events_are_read_behind_the_stored_ones(loaded: LoadedGeneration) -> None:
    events = model_world.history(*ANN, "item-09")
    stored = Query(user_id="ann", recent=events[-1:])
    inline = Query(history=events)
    found = loaded.retrieve(stored, limit=9)
    assert found == loaded.retrieve(inline, limit=9)
    assert "item-09" not in {one.item_id for one in found}, "it has been seen"
    assert loaded.rerank(stored, found) == loaded.rerank(inline, found)


def test_vectors_of_another_space_are_refused(loaded: LoadedGeneration) -> None:
    part = raw("item-20", Modality.TEXT)
    foreign = replace(part, space=replace(part.space, revision="2"))
    with pytest.raises(ValueError, match="do not meet"):
        loaded.score(INLINE, ASKED, vectors=InlineVectors(embeddings=(foreign,)))
