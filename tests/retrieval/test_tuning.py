"""What the past says about which modality counts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval import tuning
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.retriever import Retriever
from retrieval.tuning import fit_weights

NUM_ITEMS, NUM_TASTES, DIM, DEPTH = 600, 12, 16, 20
IDS = [f"i{number:03d}" for number in range(NUM_ITEMS)]
CUT = datetime(2024, 6, 1, tzinfo=UTC)
EQUAL = PoolingConfig()


def planted(modality: Modality, signal: float, *, seed: int) -> Embeddings:
    """Noise of length one, and `signal` times the axis of each item's taste."""
    random = np.random.default_rng(seed)
    vectors = normalize(random.normal(size=(NUM_ITEMS, DIM)))
    vectors[np.arange(NUM_ITEMS), np.arange(NUM_ITEMS) % NUM_TASTES] += signal
    space = Space(modality=modality, encoder="planted", revision=str(seed), dim=DIM)
    return Embeddings(space=space, item_ids=IDS, vectors_ND=normalize(vectors))


def world(**signals: float) -> ItemVectors:
    """One space for each modality named, in which taste speaks as loudly as given."""
    return concatenate(
        planted(Modality(name), signal, seed=seed)
        for seed, (name, signal) in enumerate(sorted(signals.items()))
    )


def moments(number: int = 120) -> tuple[list[Query], list[frozenset[str]]]:
    """Users of one taste each, who go on to choose four more items of it."""
    random = np.random.default_rng(5)
    queries, chosen = [], []
    for user in range(number):
        shelf = random.permutation(np.arange(user % NUM_TASTES, NUM_ITEMS, NUM_TASTES))[:8]
        past, future = shelf[:4], shelf[4:]
        events = tuple(Interaction(item_id=IDS[i], behavior="buy") for i in past)
        queries.append(Query(user_id=f"u{user}", history=events))
        chosen.append(frozenset(IDS[i] for i in future))
    return queries, chosen


def fitted(item_vectors: ItemVectors, pooling: PoolingConfig = EQUAL, **given: Any) -> Any:
    queries, chosen = moments()
    options = {"user_vectors": None, "as_of": None, "depth": DEPTH} | given
    return fit_weights(queries, chosen, item_vectors=item_vectors, pooling=pooling, **options)


def recall(
    item_vectors: ItemVectors,
    pooling: PoolingConfig,
    queries: Sequence[Query],
    chosen: Sequence[frozenset[str]],
    users: Embeddings | None = None,
) -> float:
    """What the retriever itself finds, by mean recall at DEPTH."""
    index = ExactIndex(dim=item_vectors.dim)
    index.add(item_vectors.item_ids, item_vectors.vectors_ND)
    encoder = PooledHistory(item_vectors, config=pooling, user_vectors=users)
    retriever = Retriever(index, item_vectors, encoder, popularity=[])
    found = retriever.retrieve_many(queries, limit=DEPTH)
    return float(
        np.mean(
            [
                len(items & {one.item_id for one in candidates}) / len(items)
                for items, candidates in zip(chosen, found, strict=True)
            ]
        )
    )


def test_a_modality_of_noise_loses_weight_and_the_retriever_finds_more() -> None:
    item_vectors = world(audio=0.0, text=0.7)
    pooling = fitted(item_vectors)
    assert pooling.weights[Modality.TEXT] == 1
    assert pooling.weights[Modality.AUDIO] <= 0.3
    assert recall(item_vectors, pooling, *moments()) > 1.1 * recall(item_vectors, EQUAL, *moments())


def test_equally_good_modalities_keep_equal_weights() -> None:
    item_vectors = world(audio=0.7, image=0.7, text=0.7)
    assert fitted(item_vectors).weights == {}


def test_where_nothing_tells_anything_the_start_itself_comes_back() -> None:
    start = PoolingConfig(weights={Modality.TEXT: 0.4}, half_life=7, limit=9)
    assert fitted(world(audio=0.0, text=0.0), start) is start


def test_equal_input_gives_equal_output() -> None:
    item_vectors = world(audio=0.1, image=0.4, text=0.7)
    assert fitted(item_vectors) == fitted(item_vectors)


@pytest.mark.parametrize("audio", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    "weights", [{}, {Modality.AUDIO: 3.0}, {Modality.AUDIO: 0.0}, {Modality.TEXT: 0.05}]
)
def test_recall_never_falls_on_the_moments_fitted_on(
    audio: float, weights: dict[Modality, float]
) -> None:
    item_vectors, start = world(audio=audio, text=0.6), PoolingConfig(weights=weights)
    after = recall(item_vectors, fitted(item_vectors, start), *moments())
    assert after >= recall(item_vectors, start, *moments())


def test_a_better_order_does_not_pay_for_a_lost_item() -> None:
    old = tuning._Measured(
        pooling=EQUAL, cosines={}, recall_Q=np.full(50, 0.5), value_Q=np.full(50, 0.5)
    )
    better = replace(old, value_Q=np.full(50, 0.55))
    assert tuning._gains(better, old)
    assert not tuning._gains(replace(better, recall_Q=np.full(50, 0.49)), old)


def test_a_weight_of_zero_asks_for_a_clear_gain_over_a_small_one() -> None:
    pooling = fitted(world(audio=0.25, image=0.0, text=0.6))
    assert pooling.weights[Modality.AUDIO] > 0
    assert pooling.weights[Modality.IMAGE] < pooling.weights[Modality.TEXT]


def test_the_strongest_weight_stays_as_large_as_it_was() -> None:
    start = PoolingConfig(weights={Modality.AUDIO: 2.0, Modality.TEXT: 2.0})
    assert max(fitted(world(audio=0.0, text=0.7), start).weights.values()) == 2


def test_an_only_modality_keeps_its_weight() -> None:
    assert fitted(world(text=0.7)).weights == {}


def graph_users(item_vectors: ItemVectors, *, signal: float) -> Embeddings:
    """Users on the axis of their taste, or nowhere in particular."""
    random = np.random.default_rng(9)
    vectors = normalize(random.normal(size=(120, DIM)))
    vectors[np.arange(120), np.arange(120) % NUM_TASTES] += signal
    return Embeddings(
        space=item_vectors.space(Modality.GRAPH),
        item_ids=[f"u{user}" for user in range(120)],
        vectors_ND=normalize(vectors),
    )


def test_users_vectors_count_less_where_they_mislead_and_more_where_they_know() -> None:
    item_vectors = world(graph=0.7)
    misled = graph_users(item_vectors, signal=-1.0)
    assert fitted(item_vectors, user_vectors=misled).graph_user_share == 0
    known = graph_users(item_vectors, signal=9.0)
    start = PoolingConfig(graph_user_share=0.25)
    pooling = fitted(item_vectors, start, user_vectors=known)
    assert pooling.graph_user_share == 0.75
    assert recall(item_vectors, pooling, *moments(), known) > recall(
        item_vectors, start, *moments(), known
    )


def test_a_long_memory_is_cut_short_where_only_the_newest_event_tells() -> None:
    item_vectors = world(text=1.5)
    queries, chosen = moments()
    stale = [
        Interaction(item_id=IDS[i], behavior="buy")
        for i in np.random.default_rng(1).integers(NUM_ITEMS, size=40)
    ]
    queries = [replace(one, history=(*stale[:30], *(one.history or ()))) for one in queries]
    start = PoolingConfig(half_life=80)
    pooling = fit_weights(
        queries,
        chosen,
        item_vectors=item_vectors,
        user_vectors=None,
        as_of=None,
        pooling=start,
        depth=DEPTH,
    )
    assert pooling.half_life == 5
    assert recall(item_vectors, pooling, queries, chosen) > recall(
        item_vectors, start, queries, chosen
    )


def test_ranks_are_those_of_the_retriever_with_seen_items_hidden() -> None:
    item_vectors = world(audio=0.3, text=0.6)
    queries, chosen = moments(40)
    queries[:10] = [replace(one, exclude=frozenset(IDS[:50])) for one in queries[:10]]
    queries[10:20] = [replace(one, exclude_seen=False) for one in queries[10:20]]
    chosen = [one | {"not cataloged"} for one in chosen]
    pooling = PoolingConfig(weights={Modality.AUDIO: 0.5})
    fitting = tuning._Fitting(
        list(zip(queries, chosen, strict=True)),
        item_vectors=item_vectors,
        user_vectors=None,
        as_of=None,
        pooling=pooling,
        depth=DEPTH,
    )
    found = fitting.measured(pooling).recall_Q.mean()
    assert found == pytest.approx(recall(item_vectors, pooling, queries, chosen))


def test_moments_without_choice_or_evidence_are_left_out_and_few_tell_nothing() -> None:
    item_vectors = world(audio=0.0, text=0.7)
    queries, chosen = moments()
    silent = [replace(one, history=()) for one in queries]
    options: dict[str, Any] = {
        "item_vectors": item_vectors,
        "user_vectors": None,
        "as_of": None,
        "pooling": EQUAL,
        "depth": DEPTH,
    }
    assert fit_weights(silent, chosen, **options) is EQUAL
    assert fit_weights(queries[:9], chosen[:9], **options) is EQUAL
    assert fit_weights([], [], **options) is EQUAL
    more = fit_weights(queries + silent, chosen + chosen, **options)
    assert more == fit_weights(queries, chosen, **options) != EQUAL
    assert fit_weights(queries + queries, chosen + [frozenset()] * 120, **options) == more


def test_of_too_many_moments_an_even_draw_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MAX_BYTES", 0)
    monkeypatch.setattr(tuning, "MIN_MOMENTS", 50)
    queries, chosen = moments()
    drawn = tuning._drawn(queries, chosen, 1200, 3)
    assert len(drawn) == 50
    assert (
        drawn == tuning._drawn(queries, chosen, 1200, 3) != tuning._drawn(queries, chosen, 1200, 4)
    )
    names = [query.user_id for query, _ in drawn]
    assert names == [one.user_id for one in queries if one.user_id in names]


def test_a_graph_that_saw_what_is_to_be_found_is_refused() -> None:
    queries, chosen = moments()
    timed = [replace(one, as_of=CUT) for one in queries]
    options: dict[str, Any] = {"user_vectors": None, "pooling": EQUAL, "depth": DEPTH}
    graph = world(graph=0.7)
    for as_of in (None, CUT + timedelta(seconds=1)):
        with pytest.raises(ValueError, match="graph vectors were trained on events before"):
            fit_weights(timed, chosen, item_vectors=graph, as_of=as_of, **options)
    assert fit_weights(timed, chosen, item_vectors=graph, as_of=CUT, **options)
    assert fit_weights(timed, chosen, item_vectors=world(text=0.7), as_of=None, **options)


def test_what_does_not_belong_together_is_refused() -> None:
    queries, chosen = moments()
    options: dict[str, Any] = {
        "item_vectors": world(text=0.7),
        "user_vectors": None,
        "as_of": None,
        "pooling": EQUAL,
    }
    with pytest.raises(ValueError, match="120 queries came with 119 sets of choices"):
        fit_weights(queries, chosen[1:], **options)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        fit_weights(queries, chosen, depth=0, **options)
    with pytest.raises(ValueError, match="look up the stored one first"):
        fit_weights([replace(one, history=None) for one in queries], chosen, **options)
