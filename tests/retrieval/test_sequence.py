"""A world in which what comes next is known: each user walks a ring of items, step by step."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.base import UnusableIndex
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.sequence import SequenceEncoder
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_training import fit

START = datetime(2024, 1, 1, tzinfo=UTC)
CUT = START + timedelta(days=100)
NUM_ITEMS = 24
IDS = [f"item-{number:02}" for number in range(NUM_ITEMS)]
TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=16)
IMAGE = Space(modality=Modality.IMAGE, encoder="shapes", revision="1", dim=8)
CONFIG = SequenceConfig(
    dim=32,
    num_layers=1,
    epochs=12,
    batch_size=256,
    learning_rate=3e-3,
    dropout=0.0,
    input_dropout=0.0,
)
TRAINED: dict[str, SequenceEncoder] = {}


def content(space: Space, ids: list[str]) -> Embeddings:
    """A direction for each number on the ring; `-new` items share that of their namesake."""
    random = np.random.default_rng(space.dim)
    ring = random.normal(size=(NUM_ITEMS, space.dim))
    numbers = [int(one.split("-")[1]) for one in ids]
    return Embeddings(space=space, item_ids=ids, vectors_ND=normalize(ring[numbers]))


def items(*more: str) -> ItemVectors:
    ids = [*IDS, *more]
    return concatenate([content(TEXT, ids), content(IMAGE, ids[::2])], item_ids=ids)


def interactions() -> pa.Table:
    """80 walks of 8 steps; after the cut everybody walks backwards."""
    rows = []
    for user in range(80):
        for step in range(16):
            forward = user + step if step < 8 else user - step
            time = START + timedelta(days=step if step < 8 else 100 + step)
            rows.append((f"user-{user}", IDS[forward % NUM_ITEMS], "view", time))
    names = ["user_id", "item_id", "behavior", "timestamp"]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def trained(config: SequenceConfig = CONFIG) -> SequenceEncoder:
    """The same one for all tests."""
    if repr(config) not in TRAINED:
        TRAINED[repr(config)] = fit(interactions(), item_vectors=items(), until=CUT, config=config)
    return TRAINED[repr(config)]


def walk(*numbers: int, suffix: str = "") -> Query:
    return Query(
        history=tuple(
            Interaction(item_id=IDS[number % NUM_ITEMS] + suffix, behavior="view")
            for number in numbers
        )
    )


def nearest(encoder: SequenceEncoder, query: Query, item_vectors: ItemVectors) -> str:
    embedded = encoder.items(item_vectors)
    vector_D = encoder.bound(item_vectors).encode_many([query])[0]
    hidden = [event.item_id for event in query.history or ()]
    cosines = embedded.vectors_ND @ vector_D
    cosines[[embedded.item_ids.index(one) for one in hidden]] = -1
    return embedded.item_ids[int(cosines.argmax())]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"compare": "cosine"},
        {"num_negatives": 12, "epochs": 20},
        {"loss": "full"},
        {"use_ids": False, "epochs": 24},
        {"modalities": frozenset()},
        {"popularity_exponent": 0.0, "num_negatives": 12, "epochs": 20},
    ],
    ids=["as is", "cosine", "sampled", "full", "content alone", "ids alone", "drawn evenly"],
)
def test_the_next_step_of_a_walk_is_nearest(change: dict[str, object]) -> None:
    encoder = trained(replace(CONFIG, **change))
    found = [nearest(encoder, walk(n, n + 1, n + 2), items()) for n in range(NUM_ITEMS)]
    right = sum(one == IDS[(n + 3) % NUM_ITEMS] for n, one in enumerate(found))
    assert right >= 0.9 * NUM_ITEMS


def test_the_order_of_a_history_matters() -> None:
    bound = trained().bound(items())
    forward, backward = bound.encode_many([walk(3, 4, 5), walk(5, 4, 3)])
    assert forward @ backward < 0.9


def test_vectors_are_unit_vectors_of_one_space_on_both_sides() -> None:
    for compare, dim in (("dot", 33), ("cosine", 32)):
        encoder = trained(replace(CONFIG, compare=compare))
        embedded = encoder.items(items())
        vectors_QD = encoder.bound(items()).encode_many([walk(1), walk(2, 3)])
        assert embedded.space == encoder.space
        assert (embedded.space.dim, embedded.space.modality) == (dim, None)
        assert vectors_QD.shape == (2, dim)
        assert np.linalg.norm(vectors_QD, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(embedded.vectors_ND, axis=1) == pytest.approx(1, abs=1e-5)


def test_an_item_that_training_never_saw_is_found_by_its_content_at_once() -> None:
    catalog = items("item-07-new")
    assert "item-07-new" not in trained().item_ids
    hidden = walk(4, 5, 6)
    with_twin_seen = replace(hidden, history=(*walk(7).history, *hidden.history))
    assert nearest(trained(), with_twin_seen, catalog) == "item-07-new"


def test_an_item_that_training_never_saw_is_understood_in_a_history() -> None:
    catalog = items(*[f"{one}-new" for one in IDS])
    bound = trained().bound(catalog)
    known, new = bound.encode_many([walk(4, 5, 6), walk(4, 5, 6, suffix="-new")])
    assert known @ new > 0.5


def test_a_vector_does_not_depend_on_the_rest_of_the_catalog() -> None:
    alone = trained().items(concatenate([content(TEXT, IDS), content(IMAGE, IDS[::2])]))
    among = trained().items(items())
    assert alone.item_ids == among.item_ids
    np.testing.assert_allclose(alone.vectors_ND, among.vectors_ND, atol=1e-5)


def test_a_modality_may_be_left_out() -> None:
    some = trained().items(items(), without=frozenset({Modality.TEXT}))
    none_at_all = trained(replace(CONFIG, use_ids=False)).items(
        items(), without=frozenset({Modality.TEXT})
    )
    assert list(some.item_ids) == IDS
    assert list(none_at_all.item_ids) == IDS[::2]  # those with an image
    text_alone = concatenate([content(TEXT, IDS)])
    bound = trained().bound(items(), without=frozenset({Modality.IMAGE}))
    lacking = trained().bound(text_alone)
    np.testing.assert_allclose(
        bound.encode_many([walk(1, 2)]), lacking.encode_many([walk(1, 2)]), atol=1e-5
    )


def test_an_item_of_which_nothing_is_known_has_no_vector() -> None:
    catalog = concatenate([content(TEXT, IDS)], item_ids=[*IDS, "bare"])
    encoder = trained()
    assert "bare" not in encoder.items(catalog).item_ids
    bare = Query(history=(Interaction(item_id="bare", behavior="view"),))
    unknown = Query(history=(Interaction(item_id="gone", behavior="view"),))
    vectors_QD = encoder.bound(catalog).encode_many([bare, unknown, Query(history=())])
    assert not vectors_QD.any()


def test_events_not_strictly_before_as_of_are_hidden() -> None:
    times = [START, START + timedelta(days=1), START + timedelta(days=2)]
    events = tuple(
        replace(event, timestamp=time)
        for event, time in zip(walk(1, 2, 9).history or (), times, strict=True)
    )
    seen = Query(history=events, as_of=times[2])
    np.testing.assert_array_equal(*trained().bound(items()).encode_many([seen, walk(1, 2)]))


def test_a_history_that_is_not_looked_up_is_refused() -> None:
    with pytest.raises(ValueError, match="has no history"):
        trained().bound(items()).encode_many([Query(user_id="anna")])


def test_a_query_does_not_depend_on_the_others() -> None:
    queries = [walk(*range(n, n + 1 + n % 7)) for n in range(40)]
    bound = trained().bound(items())
    alone = np.concatenate([bound.encode_many([query]) for query in queries])
    np.testing.assert_allclose(bound.encode_many(queries), alone, atol=1e-5)


def test_only_the_newest_events_are_read() -> None:
    config = replace(CONFIG, limit=4, epochs=1)
    bound = trained(config).bound(items())
    long, short = bound.encode_many([walk(9, 17, 1, 2, 3, 4), walk(1, 2, 3, 4)])
    np.testing.assert_allclose(long, short, atol=1e-6)


def test_other_behaviors_than_those_trained_on_say_nothing() -> None:
    events = walk(1, 2).history or ()
    other, another = (
        Query(history=tuple(replace(event, behavior=name) for event in events))
        for name in ("sing", "dance")
    )
    np.testing.assert_array_equal(*trained().bound(items()).encode_many([other, another]))


def test_a_saved_encoder_answers_as_before(tmp_path: Path) -> None:
    encoder = trained()
    encoder.save(tmp_path / "sequence.safetensors")
    loaded = SequenceEncoder.load(tmp_path / "sequence.safetensors")
    assert loaded.space == encoder.space
    assert (loaded.config, loaded.until) == (encoder.config, CUT)
    np.testing.assert_array_equal(
        loaded.items(items()).vectors_ND, encoder.items(items()).vectors_ND
    )
    query = walk(1, 2, 3)
    np.testing.assert_array_equal(
        loaded.bound(items()).encode_many([query]), encoder.bound(items()).encode_many([query])
    )


def test_a_damaged_file_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "sequence.safetensors"
    with pytest.raises(UnusableIndex, match="is missing"):
        SequenceEncoder.load(path)
    trained().save(path)
    whole = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnusableIndex, match="sommelier index"):
        SequenceEncoder.load(path)
    weight = next(name for name in whole if name.endswith("ids.weight"))
    save_file({**whole, weight: whole[weight][:-1].copy()}, path)
    with pytest.raises(UnusableIndex, match="size mismatch"):
        SequenceEncoder.load(path)
    save_file({name: one for name, one in whole.items() if name != weight}, path)
    with pytest.raises(UnusableIndex, match="Missing key"):
        SequenceEncoder.load(path)
    facts = json.loads(whole["facts"].tobytes())
    facts["config"]["dim"] = "wide"
    changed = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    save_file({**whole, "facts": changed}, path)
    with pytest.raises(UnusableIndex, match="is damaged"):
        SequenceEncoder.load(path)


def test_content_of_another_encoder_is_refused() -> None:
    other = content(replace(TEXT, revision="2"), IDS)
    with pytest.raises(ValueError, match="train it again"):
        trained().items(concatenate([other]))
