"""Retrieval in a world whose right answers are known."""

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.attributes import Attributes, Column
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import concatenate
from retrieval.exact import ExactIndex
from retrieval.filters import Filter
from retrieval.fusion import Fusion
from retrieval.learned_fusion import Learned
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.rank_fusion import ByRank, fuse
from retrieval.registry import KINDS, create
from retrieval.retriever import QUERY_BLOCK, Retriever
from tests.retrieval.small_world import IDS, POPULARITY, history, items, retriever


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.item_id for candidate in candidates]


def test_the_items_of_a_taste_come_first_for_whoever_has_it() -> None:
    for taste in ("sweet", "sour"):
        found = retriever().retrieve(Query(history=history(f"{taste}-0", f"{taste}-1")), limit=4)
        assert all(one.startswith(taste) for one in ids(found))
        assert [candidate.rank for candidate in found] == [1, 2, 3, 4]


def test_an_item_new_to_the_graph_is_found_by_its_text_at_once() -> None:
    found = retriever().retrieve(Query(history=history("sweet-0", "sweet-1")), limit=6)
    new = found[ids(found).index("sweet-new")]
    assert new.found_by == (Modality.TEXT,)


def test_the_score_is_the_weighted_sum_of_the_cosines_shown() -> None:
    weights = {Modality.TEXT: 2.0, Modality.GRAPH: 0.5}
    found = retriever(PoolingConfig(weights=weights)).retrieve(
        Query(history=history("sweet-0")), limit=20
    )
    for candidate in found:
        total = sum(weights[one] * cosine for one, cosine in candidate.evidence.items())
        assert candidate.score == pytest.approx(total, abs=1e-6)
        assert all(-1.001 < cosine < 1.001 for cosine in candidate.evidence.values())


def test_evidence_is_shown_only_where_both_have_the_modality() -> None:
    found = retriever(users=None).retrieve(Query(history=history("sweet-new")), limit=20)
    assert {candidate.found_by for candidate in found} == {(Modality.TEXT,), ()}
    mute = found[ids(found).index("sour-mute")]
    assert (mute.score, mute.evidence) == (0, {})


def test_a_query_of_one_modality_is_an_ablation() -> None:
    only_text = frozenset({Modality.TEXT})
    query = Query(history=history("sweet-0"), modalities=only_text)
    found = retriever().retrieve(query, limit=5)
    assert all(candidate.found_by == (Modality.TEXT,) for candidate in found)


def test_seen_items_are_left_out_unless_asked_for_and_the_limit_is_still_filled() -> None:
    seen = history(*IDS[6:10])
    found = retriever().retrieve(Query(history=seen), limit=5)
    assert len(found) == 5
    assert not set(ids(found)) & set(IDS[6:10])
    again = retriever().retrieve(Query(history=seen, exclude_seen=False), limit=5)
    assert set(ids(again)) & set(IDS[6:10])


def test_an_event_hidden_by_the_cut_hides_no_item() -> None:
    cut = datetime(2024, 1, 1, tzinfo=UTC)
    events = tuple(
        Interaction(item_id=item_id, behavior="view", timestamp=cut + timedelta(days=days))
        for item_id, days in (("sweet-0", -1), ("sweet-1", 1))
    )
    found = retriever().retrieve(Query(history=events, as_of=cut), limit=20)
    assert "sweet-0" not in ids(found)
    assert "sweet-1" in ids(found)


def test_excluded_items_are_left_out_and_unknown_ones_do_no_harm() -> None:
    query = Query(history=history("sweet-0"), exclude=frozenset({"sweet-1", "unheard"}))
    assert "sweet-1" not in ids(retriever().retrieve(query, limit=20))


def test_a_query_that_excludes_everything_finds_nothing() -> None:
    query = Query(history=history("sweet-0"), exclude=frozenset(items().item_ids))
    assert retriever().retrieve(query, limit=3) == []


def test_who_is_unknown_gets_the_most_popular_items_without_evidence() -> None:
    query = Query(user_id="unheard", history=(), exclude=frozenset({"sweet-1"}))
    found = retriever().retrieve(query, limit=4)
    assert ids(found) == ["sour-1", "sour-0", "sweet-0", "bare"]
    assert [candidate.score for candidate in found] == [1.0, 0.25, 0.25, 0.0]
    assert [candidate.rank for candidate in found] == [1, 2, 3, 4]
    assert all(not candidate.evidence for candidate in found)


def test_given_items_are_scored_as_retrieval_scores_them() -> None:
    query = Query(user_id="sweet-user", history=history("sweet-0"))
    found = retriever().retrieve(query, limit=20)
    scored = retriever().score(query, [*ids(found)[::-1], "unheard"])
    assert scored == found
    assert ids(retriever().score(query, ["sweet-0"])) == ["sweet-0"]


def test_given_items_are_ordered_by_popularity_for_who_is_unknown() -> None:
    scored = retriever().score(Query(history=()), ["bare", "sweet-1", "unheard", "sour-1"])
    assert ids(scored) == ["sour-1", "sweet-1", "bare"]


def test_an_item_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="named twice"):
        retriever().score(Query(history=()), ["bare", "bare"])


def test_a_history_that_nobody_looked_up_is_refused() -> None:
    with pytest.raises(ValueError, match="look up the stored one first"):
        retriever().retrieve(Query(user_id="sweet-user"), limit=3)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        retriever().retrieve(Query(history=()), limit=0)


def test_parts_of_different_spaces_are_refused() -> None:
    encoder = PooledHistory(items(), config=PoolingConfig())
    with pytest.raises(ValueError, match="3 dimensions"):
        Retriever(ExactIndex(dim=3), items(), encoder, popularity=[])


def test_weights_of_one_query_replace_those_of_the_encoder() -> None:
    query = Query(history=history("sweet-0"), weights={"text": 3.0})
    found = retriever(PoolingConfig(weights={"graph": 0.5})).retrieve(query, limit=20)
    for one in found:
        total = 3 * one.evidence.get("text", 0) + 0.5 * one.evidence.get("graph", 0)
        assert one.score == pytest.approx(total, abs=1e-6)
    alone = dataclasses.replace(query, weights={"text": 1.0, "graph": 0.0})
    only_text = dataclasses.replace(query, weights=None, modalities=frozenset({"text"}))
    assert ids(retriever().retrieve(alone, limit=20)) == ids(
        retriever().retrieve(only_text, limit=20)
    )


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"audio": 1.0}, "no block 'audio' to weigh; there are: graph, text"),
        ({"text": -0.1}, r"weights\['text'\] must be 0 or more"),
        ({"text": float("nan")}, "must be 0 or more"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights: dict[str, float], words: str) -> None:
    query = Query(history=history("sweet-0"), weights=weights)
    with pytest.raises(ValueError, match=words):
        retriever().retrieve(query, limit=3)
    with pytest.raises(ValueError, match=words):
        retriever().score(query, ["sweet-1"])


def filtering() -> Retriever:
    """The small world, in which items of an even number are cheap."""
    item_vectors = items()
    index = ExactIndex(dim=item_vectors.dim)
    rows = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    index.add([item_vectors.item_ids[row] for row in rows], item_vectors.vectors_ND[rows])
    encoder = PooledHistory(item_vectors, config=PoolingConfig())
    columns = {
        "price": Column(["1", "9"], np.array([int(one[-1] in "135") for one in IDS], np.int32))
    }
    return Retriever(
        index,
        item_vectors,
        encoder,
        popularity=POPULARITY,
        attributes=Attributes(IDS, columns),
    )


def test_a_filter_leaves_only_allowed_items_and_as_many_as_there_are() -> None:
    cheap = Filter.parse(["price<=5"])
    query = Query(history=history("sweet-0"), filters=cheap)
    found = filtering().retrieve(query, limit=20)
    assert sorted(ids(found)) == ["sour-0", "sour-2", "sour-4", "sweet-2", "sweet-4"]
    everything = filtering().retrieve(dataclasses.replace(query, filters=None), limit=20)
    kept = [one for one in everything if one.item_id in ids(found)]
    assert [(one.item_id, one.score) for one in found] == [(o.item_id, o.score) for o in kept]
    unknown = filtering().retrieve(Query(history=(), filters=cheap), limit=3)
    assert ids(unknown) == ["sour-0", "sweet-0", "sour-2"]
    with pytest.raises(ValueError, match="no attribute 'color'"):
        filtering().retrieve(
            Query(history=history("sweet-0"), filters=Filter.parse(["color=red"])), limit=3
        )


def test_items_are_allowed_and_denied_by_name_without_any_attribute() -> None:
    allowed = Filter(allow=frozenset({"sour-1", "sweet-1", "sweet-2"}), deny=frozenset({"sweet-1"}))
    for events in (history("sweet-0"), ()):
        found = retriever().retrieve(Query(history=events, filters=allowed), limit=5)
        assert sorted(ids(found)) == ["sour-1", "sweet-2"]


def test_queries_of_several_filters_are_answered_as_each_alone() -> None:
    filters = [None, Filter.parse(["price<=5"]), Filter.parse(["price>=5"])]
    many = [
        Query(history=history(item_id), filters=filters[place % 3])
        for place, item_id in enumerate([*IDS, "unheard"])
    ]
    world = filtering()
    assert world.retrieve_many(many, limit=4) == [world.retrieve(one, limit=4) for one in many]


@pytest.fixture(scope="module", params=KINDS)
def large(request: pytest.FixtureRequest) -> Retriever:
    """A thousand items, of which every vector occurs twice."""
    random = np.random.default_rng(0)
    item_ids = [f"{number:04}" for number in random.permutation(1000)]
    parts = []
    for modality, dim in ((Modality.IMAGE, 37), (Modality.TEXT, 21)):
        vectors = np.tile(random.normal(size=(500, dim)), (2, 1))
        space = Space(modality=modality, encoder="random", revision="1", dim=dim)
        parts.append(Embeddings(space=space, item_ids=item_ids, vectors_ND=normalize(vectors)))
    item_vectors = concatenate(parts)
    index = create(request.param, dim=item_vectors.dim)
    index.add(item_vectors.item_ids, item_vectors.vectors_ND)
    encoder = PooledHistory(item_vectors, config=PoolingConfig())
    return Retriever(index, item_vectors, encoder, popularity=[("0007", 1)])


def queries(count: int) -> list[Query]:
    random = np.random.default_rng(1)
    return [
        Query(history=history(*(f"{one:04}" for one in random.integers(0, 1000, size % 60))))
        for size in range(count)
    ]


def test_many_queries_are_answered_as_each_alone(large: Retriever) -> None:
    many = queries(2 * QUERY_BLOCK + 5)
    answers = large.retrieve_many(many, limit=11)
    assert answers == [large.retrieve(query, limit=11) for query in many]
    assert large.retrieve_many([], limit=11) == []


def test_a_shorter_list_is_the_head_of_a_longer_one(large: Retriever) -> None:
    for query in queries(20):
        assert large.retrieve(query, limit=7) == large.retrieve(query, limit=60)[:7]


def test_ids_and_scores_alone_are_those_of_the_candidates(large: Retriever) -> None:
    many = queries(QUERY_BLOCK + 3)
    whole = large.retrieve_many(many, limit=9)
    lean = large.retrieve_ids(many, limit=9)
    assert lean == [([one.item_id for one in x], [one.score for one in x]) for x in whole]


def test_exact_ranks_are_those_of_a_list_without_end(large: Retriever) -> None:
    many = queries(70)
    many[5] = dataclasses.replace(many[5], filters=Filter(deny=frozenset({"0001"})))
    many[6] = dataclasses.replace(many[6], weights={"text": 0.0})
    many[7] = dataclasses.replace(many[7], exclude_seen=False)
    random = np.random.default_rng(2)
    sought = [
        {"unheard", "0001", *(f"{one:04}" for one in random.integers(0, 1000, 5))} for _ in many
    ]
    found = large.exact_ranks(many, sought)
    for ranked, items_sought, candidates in zip(
        found, sought, large.retrieve_many(many, limit=1000), strict=True
    ):
        assert ranked == {c.item_id: c.rank for c in candidates if c.item_id in items_sought}
    with pytest.raises(ValueError, match="70 queries came with 1 sets"):
        large.exact_ranks(many, [frozenset()])


def test_items_without_any_vector_have_no_exact_rank_but_among_the_popular() -> None:
    known, unknown = Query(history=history("sweet-0")), Query(history=())
    sought = [frozenset({"bare", "sweet-1", "sweet-0"})] * 2
    ranked = retriever().exact_ranks([known, unknown], sought)
    assert ranked[0].keys() == {"sweet-1"}
    assert ranked[1] == {"sweet-1": 2, "sweet-0": 4, "bare": 5}


@pytest.fixture(scope="module", params=["rank", "learned"])
def fusing(request: pytest.FixtureRequest, large: Retriever) -> Retriever:
    """The thousand items, whose lists are fused."""
    fusion: Fusion = ByRank()
    if request.param == "learned":
        slopes = (1.0, 4.0, 0.5, 0.1, 2.0, 1.0, 0.2, 0.3, 0.7)
        fusion = Learned(
            blocks=("image", "text"), means=(0.0,) * 9, deviations=(1.0,) * 9, slopes=slopes
        )
    return Retriever(
        large.index,
        large.items,
        large.encoder,
        popularity=[("0007", 1)],
        fusion=fusion,
    )


def test_fused_queries_are_answered_as_each_alone_and_a_shorter_list_is_a_head(
    fusing: Retriever,
) -> None:
    many = queries(QUERY_BLOCK + 5)
    answers = fusing.retrieve_many(many, limit=30)
    assert answers == [fusing.retrieve(query, limit=30) for query in many]
    assert [one[:7] for one in answers] == fusing.retrieve_many(many, limit=7)
    for query, found in zip(many, answers, strict=True):
        assert len(found) == 30
        assert not set(ids(found)) & {event.item_id for event in query.history or ()}


def test_given_items_are_scored_as_the_fused_list_scores_them(fusing: Retriever) -> None:
    for query in queries(20)[1:]:
        found = fusing.retrieve(query, limit=20)
        assert fusing.score(query, ids(found)[::-1]) == found


def test_a_list_by_ranks_begins_with_what_both_blocks_find_first(large: Retriever) -> None:
    fused = Retriever(large.index, large.items, large.encoder, popularity=[], fusion=ByRank())
    query = queries(30)[-1]
    lists = [
        large.retrieve(dataclasses.replace(query, modalities=frozenset({name})), limit=200)
        for name in ("image", "text")
    ]
    expected = fuse(lists, limit=25)
    found = fused.retrieve(query, limit=25)
    assert [one.score for one in found] == pytest.approx([one.score for one in expected])
    assert set(dict.fromkeys(fused.weights.values())) == {0.0}


def test_equal_items_fall_by_item_id(large: Retriever) -> None:
    query = dataclasses.replace(queries(30)[-1], exclude_seen=False)
    found = large.retrieve(query, limit=50)
    for first, second in itertools.pairwise(found):
        assert (-first.score, first.item_id) < (-second.score, second.item_id)
    assert len({candidate.score for candidate in found}) == 25
