"""What one request brings stands in place of what is held, for that request alone."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.attributes import Attributes, Texts
from retrieval.brought import exchanged
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.filters import Filter
from retrieval.fusion import Fusion
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.rank_fusion import ByRank
from retrieval.retriever import Retriever

AUDIO = Space(modality=Modality.AUDIO, encoder="tones", revision="1", dim=3)
TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=4)
IDS = [f"item-{n:02}" for n in range(30)]
QUERY = Query(history=tuple(Interaction(item_id=one, behavior="view") for one in IDS[:3]))
ASKED = [*IDS[5:12], "new"]


def vectors(space: Space, item_ids: list[str], *, seed: int) -> Embeddings:
    drawn_ND = np.random.default_rng(seed).normal(size=(len(item_ids), space.dim))
    return Embeddings(space=space, item_ids=item_ids, vectors_ND=normalize(drawn_ND))


HELD = {AUDIO: vectors(AUDIO, IDS, seed=1), TEXT: vectors(TEXT, IDS[:-1], seed=2)}


def catalog(*, text: Embeddings = HELD[TEXT], item_ids: list[str] = IDS) -> ItemVectors:
    """Centered on the items that were there from the beginning."""
    return concatenate([HELD[AUDIO], text], item_ids=item_ids, fitted_on=[])


def retriever(items: ItemVectors, *, fusion: Fusion | None = None) -> Retriever:
    index = ExactIndex(dim=items.dim)
    index.add(items.item_ids, items.vectors_ND)
    encoder = PooledHistory(items, config=PoolingConfig(weights={Modality.AUDIO: 0.5}))
    return Retriever(index, items, encoder, popularity=[("item-07", 2.0)], fusion=fusion)


def part(item_ids: list[str], *, of: Embeddings = HELD[TEXT]) -> Embeddings:
    rows = [list(of.item_ids).index(one) for one in item_ids]
    return replace(of, item_ids=item_ids, vectors_ND=of.vectors_ND[rows])


@pytest.mark.parametrize("fusion", [None, ByRank()])
def test_bringing_an_items_own_vectors_changes_no_bit(fusion: Fusion | None) -> None:
    searched = retriever(catalog(), fusion=fusion)
    own = [part(IDS[5:9]), part(IDS[7:12], of=HELD[AUDIO])]
    assert searched.score(QUERY, IDS[5:12], brought=own) == searched.score(QUERY, IDS[5:12])


@pytest.mark.parametrize("fusion", [None, ByRank()])
def test_a_brought_item_is_scored_as_if_it_had_been_published(fusion: Fusion | None) -> None:
    new = vectors(TEXT, ["new"], seed=9)
    both = np.concatenate([HELD[TEXT].vectors_ND, new.vectors_ND])
    text = replace(HELD[TEXT], item_ids=[*HELD[TEXT].item_ids, "new"], vectors_ND=both)
    published = retriever(catalog(text=text, item_ids=[*IDS, "new"]), fusion=fusion)
    found = retriever(catalog(), fusion=fusion).score(QUERY, ASKED, brought=[new])
    assert next(one for one in found if one.item_id == "new").evidence.keys() == {"text"}
    assert found == published.score(QUERY, ASKED)


def test_the_other_blocks_and_the_other_items_stay() -> None:
    items = catalog()
    made = exchanged(items, ASKED, [vectors(TEXT, ["new", "item-06", "elsewhere"], seed=4)])
    assert made.item_ids == (*IDS[5:12], "new")
    rows = [items.row_of[one] for one in IDS[5:12]]
    np.testing.assert_array_equal(made.block("audio")[:-1], items.block("audio")[rows])
    is_same = (made.block("text")[:-1] == items.block("text")[rows]).all(axis=1)
    assert is_same.tolist() == [one != "item-06" for one in IDS[5:12]]
    assert made.is_present("text")[-1]
    assert not made.is_present("audio")[-1]


def test_who_is_asked_for_nobody_knows_gets_popularity_for_brought_items_too() -> None:
    new = vectors(TEXT, ["new"], seed=9)
    found = retriever(catalog()).score(Query(history=()), ["new", "item-07"], brought=[new])
    assert [(one.item_id, one.score) for one in found] == [("item-07", 1.0), ("new", 0.0)]


def test_vectors_of_another_space_are_refused() -> None:
    foreign = vectors(replace(TEXT, revision="2"), ["new"], seed=1)
    with pytest.raises(ValueError, match="do not meet"):
        retriever(catalog()).score(QUERY, ["new"], brought=[foreign])


def test_an_item_without_attributes_passes_a_filter_of_ids_alone() -> None:
    held = Attributes.of([Texts(item_id=one, attributes={"kind": one[-1]}) for one in IDS])
    asked = ["item-01", "new", "item-12", "item-11"]
    assert held.passing(Filter.parse(["kind=1|2"]), asked) == ["item-01", "item-12", "item-11"]
    assert held.passing(Filter.parse([], deny=["item-12"]), asked) == ["item-01", "new", "item-11"]
    assert held.passing(Filter.parse([], allow=["new", "item-11"]), asked) == ["new", "item-11"]
    with pytest.raises(ValueError, match="no attribute 'color'"):
        held.passing(Filter.parse(["color=red"]), asked)
