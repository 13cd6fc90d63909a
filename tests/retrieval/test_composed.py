"""Several query encoders answer as one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.vectors import Embeddings, Space
from retrieval.candidates import Query
from retrieval.composed import Composed, OneBlock, query_encoder
from retrieval.concatenated import SEQUENCE, ItemVectors
from retrieval.exact import ExactIndex
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.retriever import Retriever
from tests.retrieval.small_world import IDS, USERS, history, items

CUT = datetime(2024, 6, 1, tzinfo=UTC)
SPACE = Space(modality=None, encoder=SEQUENCE, revision="1", dim=2)


class NextOfLast:
    """After an item of one taste comes one of the other: what no mean of a history can say."""

    def encode_many(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        vectors_QD = np.zeros((len(queries), 2), dtype=np.float32)
        for row, query in enumerate(queries):
            known = [one.item_id for one in query.history or () if one.item_id in IDS]
            if known:
                vectors_QD[row, 0 if known[-1].startswith("sweet") else 1] = 1
        return vectors_QD


def with_sequence() -> ItemVectors:
    axes = np.array([[1.0, 0.0] if one.startswith("sour") else [0.0, 1.0] for one in IDS])
    made = Embeddings(space=SPACE, item_ids=IDS, vectors_ND=axes.astype(np.float32))
    return items().joined(made)


def test_every_block_is_encoded_by_whoever_speaks_it() -> None:
    encoder = query_encoder(
        with_sequence(),
        pooling=PoolingConfig(weights={"sequence": 2.0, "text": 0.5}),
        user_vectors=USERS,
        as_of=None,
        sequence=NextOfLast(),
    )
    assert encoder.weights == {"graph": 1.0, "text": 0.5, "sequence": 2.0}
    queries = [Query(history=history("sweet-0")), Query(history=()), Query(history=history("bare"))]
    known, empty, bare = encoder.encode_many(queries)
    assert sorted(known.vectors) == ["graph", "sequence", "text"]
    assert sorted(known.agreement) == ["graph", "text"], "nothing is pooled in the network's block"
    assert not empty.vectors
    assert not bare.vectors
    alone = PooledHistory(items(), config=PoolingConfig(), user_vectors=USERS).encode(queries[0])
    for name, vector_D in alone.vectors.items():
        np.testing.assert_array_equal(known.vectors[name], vector_D)


def test_the_networks_cosine_is_evidence_and_part_of_the_score() -> None:
    item_vectors = with_sequence()
    encoder = query_encoder(
        item_vectors,
        pooling=PoolingConfig(weights={"sequence": 5.0}),
        user_vectors=None,
        as_of=None,
        sequence=NextOfLast(),
    )
    index = ExactIndex(dim=item_vectors.dim)
    index.add(item_vectors.item_ids, item_vectors.vectors_ND)
    retriever = Retriever(index, item_vectors, encoder, popularity=[])
    query = Query(history=history("sweet-0", "sweet-1"))
    found = retriever.retrieve(query, limit=6)
    assert all(one.item_id.startswith("sour") for one in found)
    for one in found:
        weighed = sum(encoder.weights[name] * cosine for name, cosine in one.evidence.items())
        assert one.score == pytest.approx(weighed, abs=1e-6)
        assert SEQUENCE in one.evidence
        assert SEQUENCE not in one.support
    pooled = Query(history=query.history, modalities=frozenset({"graph", "text"}))
    assert all(one.item_id.startswith("sweet") for one in retriever.retrieve(pooled, limit=4))


def test_a_network_that_saw_later_events_says_nothing() -> None:
    query = Query(history=history("sweet-0"), as_of=CUT)
    for trained_until, is_heard in ((CUT, True), (CUT + timedelta(days=1), False), (None, False)):
        block = OneBlock(SEQUENCE, NextOfLast(), weight=1.0, as_of=trained_until)
        assert bool(block.encode(query).vectors) is is_heard
    asked = Query(history=history("sweet-0"))
    assert OneBlock(SEQUENCE, NextOfLast(), weight=1.0, as_of=None).encode(asked).vectors


def test_a_block_that_is_not_asked_for_is_not_encoded() -> None:
    block = OneBlock(SEQUENCE, NextOfLast(), weight=1.0, as_of=None)
    text = Query(history=history("sweet-0"), modalities=frozenset({"text"}))
    every = Query(history=history("sweet-0"))
    assert [bool(one.vectors) for one in block.encode_many([text, every, text])] == [
        False,
        True,
        False,
    ]


def test_two_encoders_of_one_block_are_refused() -> None:
    block = OneBlock(SEQUENCE, NextOfLast(), weight=1.0, as_of=None)
    with pytest.raises(ValueError, match="two query encoders speak one block"):
        Composed([block, block])


def test_a_block_needs_its_network_and_a_network_its_block() -> None:
    given = {"pooling": PoolingConfig(), "user_vectors": None, "as_of": None}
    with pytest.raises(ValueError, match="no network came with the blocks graph, sequence, text"):
        query_encoder(with_sequence(), **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a network came with the blocks graph, text"):
        query_encoder(items(), **given, sequence=NextOfLast())  # type: ignore[arg-type]
