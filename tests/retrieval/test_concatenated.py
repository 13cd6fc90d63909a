"""The concatenated space: blocks, centers, absence."""

import dataclasses

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.concatenated import NEIGHBORS, SEQUENCE, concatenate
from tests.retrieval.small_world import EDGES, GRAPH, IDS, TEXT, TEXTS, items


def test_rows_are_sorted_by_item_and_blocks_by_modality() -> None:
    item_vectors = items()
    assert list(item_vectors.item_ids) == sorted(item_vectors.item_ids)
    assert item_vectors.spaces == (GRAPH, TEXT)
    assert item_vectors.modalities == (Modality.GRAPH, Modality.TEXT)
    assert item_vectors.columns_of == {Modality.GRAPH: slice(0, 4), Modality.TEXT: slice(4, 10)}
    assert item_vectors.dim == item_vectors.vectors_ND.shape[1] == 10


def test_the_order_in_which_spaces_come_changes_nothing() -> None:
    first, second = concatenate([TEXTS, EDGES]), concatenate([EDGES, TEXTS])
    np.testing.assert_array_equal(first.vectors_ND, second.vectors_ND)


def test_present_blocks_have_unit_length_and_absent_ones_are_zeros() -> None:
    item_vectors = items()
    for place, modality in enumerate(item_vectors.modalities):
        norms = np.linalg.norm(item_vectors.block(modality), axis=1)
        np.testing.assert_allclose(norms, item_vectors.is_present_NM[:, place], atol=1e-6)
    present = dict(zip(item_vectors.item_ids, item_vectors.is_present_NM.tolist(), strict=True))
    assert present["sweet-new"] == [False, True]
    assert present["sour-mute"] == [True, False]
    assert present["bare"] == [False, False]
    assert present["sour-0"] == [True, True]


def test_centering_takes_the_common_mean_away_and_tells_tastes_apart() -> None:
    def spread(uncentered: frozenset[Modality]) -> float:
        vectors = concatenate([TEXTS], uncentered=uncentered).vectors_ND
        cosines = vectors @ vectors.T
        return float(cosines[:6, :6].mean() - cosines[:6, 6:12].mean())

    assert spread(frozenset({Modality.TEXT})) < 0.1
    assert spread(frozenset()) > 1


def test_graph_vectors_keep_their_own_cosines_by_default() -> None:
    item_vectors = items()
    row = item_vectors.row_of["sour-0"]
    original = EDGES.vectors_ND[list(EDGES.item_ids).index("sour-0")]
    np.testing.assert_allclose(item_vectors.block(Modality.GRAPH)[row], original, atol=1e-6)
    assert not item_vectors.centers_D[:4].any()
    assert item_vectors.centers_D[4:].any()


def test_vectors_placed_later_lie_where_the_items_lie() -> None:
    item_vectors = items()
    rows = [item_vectors.row_of[item_id] for item_id in TEXTS.item_ids]
    np.testing.assert_array_equal(
        item_vectors.place(TEXTS), item_vectors.block(Modality.TEXT)[rows]
    )
    other = dataclasses.replace(TEXT, revision="2")
    with pytest.raises(ValueError, match=r"text_words_.* do not meet"):
        item_vectors.place(dataclasses.replace(TEXTS, space=other))


def test_the_mean_is_that_of_the_items_fitted_on_whatever_else_there_is() -> None:
    known = TEXTS.item_ids[:8]
    fitted = concatenate([TEXTS], fitted_on=frozenset(known))
    moved = dataclasses.replace(
        TEXTS, vectors_ND=np.concatenate([TEXTS.vectors_ND[:8], TEXTS.vectors_ND[8:][::-1]])
    )
    again = concatenate([moved], fitted_on=frozenset(known))
    np.testing.assert_array_equal(fitted.centers_D, again.centers_D)
    rows = [fitted.row_of[one] for one in known]
    np.testing.assert_array_equal(fitted.vectors_ND[rows], again.vectors_ND[rows])
    assert (concatenate([TEXTS]).centers_D != fitted.centers_D).any()
    assert not concatenate([TEXTS], fitted_on=frozenset()).centers_D.any()


def test_a_block_of_a_network_is_joined_by_its_name_and_uncentered() -> None:
    item_vectors = items()
    space = Space(modality=None, encoder=SEQUENCE, revision="1", dim=3)
    vectors = normalize(np.random.default_rng(0).normal(size=(12, 3)))
    joined = item_vectors.joined(Embeddings(space=space, item_ids=IDS, vectors_ND=vectors))
    assert joined.names == ("graph", "sequence", "text")
    assert joined.modalities == (Modality.GRAPH, Modality.TEXT)
    rows = [joined.row_of[item_id] for item_id in IDS]
    np.testing.assert_allclose(joined.block(SEQUENCE)[rows], vectors, atol=1e-6)
    assert int(joined.is_present(SEQUENCE).sum()) == len(IDS)
    for name in item_vectors.names:
        np.testing.assert_array_equal(joined.block(name), item_vectors.block(name))
    content = joined.content
    np.testing.assert_array_equal(content.vectors_ND, item_vectors.vectors_ND)
    other = dataclasses.replace(space, dim=2, revision="2")
    again = joined.joined(
        Embeddings(space=other, item_ids=IDS[:1], vectors_ND=vectors[:1, :2] * 0 + 0.5**0.5)
    )
    assert again.space(SEQUENCE) == other
    assert again.dim == joined.dim - 1


def test_only_some_blocks_are_kept_and_unknown_ones_are_refused() -> None:
    item_vectors = items()
    text = item_vectors.only(["text"])
    assert text.names == ("text",)
    np.testing.assert_array_equal(text.vectors_ND, item_vectors.block("text"))
    with pytest.raises(ValueError, match="no block 'audio'"):
        item_vectors.only(["audio"])
    with pytest.raises(ValueError, match="no block is left"):
        item_vectors.only([])


def test_an_item_that_is_the_mean_itself_counts_as_absent() -> None:
    alone = Embeddings(space=TEXT, item_ids=["x"], vectors_ND=TEXTS.vectors_ND[:1])
    assert not concatenate([alone]).is_present_NM.any()


def test_items_outside_the_catalog_are_left_out() -> None:
    item_vectors = concatenate([TEXTS], item_ids=["sour-1", "unheard"])
    assert item_vectors.item_ids == ("sour-1", "unheard")


def test_two_spaces_of_one_modality_are_refused() -> None:
    with pytest.raises(ValueError, match="one space for each block"):
        concatenate([TEXTS, TEXTS])
    with pytest.raises(ValueError, match="one space for each block"):
        concatenate([])
    fused = Space(modality=None, encoder="fused", revision="1", dim=6)
    with pytest.raises(ValueError, match=r"fused_fused_.* can be no block"):
        concatenate([dataclasses.replace(TEXTS, space=fused)])


def test_neighbors_are_a_block_without_vectors_and_no_modality() -> None:
    space = Space(modality=None, encoder=NEIGHBORS, revision="1", dim=1, is_normalized=False)
    nothing = Embeddings(
        space=space, item_ids=IDS, vectors_ND=np.zeros((len(IDS), 1), dtype=np.float32)
    )
    item_vectors = items().joined(nothing)
    assert item_vectors.names == ("graph", NEIGHBORS, "text")
    assert item_vectors.modalities == (Modality.GRAPH, Modality.TEXT)
    assert not item_vectors.is_present(NEIGHBORS).any()
    np.testing.assert_array_equal(item_vectors.content.vectors_ND, items().vectors_ND)


def test_an_unknown_modality_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no block 'audio'"):
        items().space(Modality.AUDIO)


def test_vectors_that_do_not_fit_their_ids_are_refused() -> None:
    item_vectors = items()
    with pytest.raises(ValueError, match="sorted"):
        dataclasses.replace(item_vectors, item_ids=item_vectors.item_ids[::-1])
    with pytest.raises(ValueError, match="shapes"):
        dataclasses.replace(item_vectors, item_ids=item_vectors.item_ids[1:])
    with pytest.raises(ValueError, match="by name"):
        dataclasses.replace(item_vectors, spaces=(TEXT, GRAPH))
