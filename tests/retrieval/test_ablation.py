"""What retrieval would be had a block never been there."""

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import Modality
from retrieval.ablation import without
from retrieval.build import IndexConfig, Retrieval, build, load
from retrieval.candidates import Query
from retrieval.concatenated import SEQUENCE
from retrieval.pooled import PoolingConfig
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_training import fit
from tests.retrieval.small_world import POPULARITY, USERS, history, items

CONFIG = SequenceConfig(dim=8, num_layers=1, epochs=2, loss="full", num_negatives=4)


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Retrieval:
    """The small world with a network that read what users of each taste touched."""
    events = [(f"{taste}-{user}", f"{taste}-{(user + n) % 6}") for taste in ("sour", "sweet")
              for user in range(6) for n in range(5)]  # fmt: skip
    table = pa.table(
        {
            "user_id": [user for user, _ in events],
            "item_id": [item for _, item in events],
            "behavior": ["view"] * len(events),
            "timestamp": pa.nulls(len(events), pa.timestamp("us", tz="UTC")),
            "position": range(len(events)),
        }
    )
    network = fit(table, item_vectors=items(), until=None, config=CONFIG)
    folder = tmp_path_factory.mktemp("ablated") / "index"
    build(
        items().joined(network.items(items())),
        folder=folder,
        config=IndexConfig(num_probes=4),
        pooling=PoolingConfig(),
        popularity=POPULARITY,
        user_vectors=USERS,
        sequence=network,
    )
    return load(folder)


QUERY = Query(user_id="sweet-user", history=history("sweet-0", "sweet-1"))


def test_the_whole_has_every_block_as_evidence(retrieval: Retrieval) -> None:
    best = retrieval.retriever().retrieve(QUERY, limit=1)[0]
    assert best.found_by == ("graph", "sequence", "text")


def test_without_a_modality_the_network_does_not_read_it_either(retrieval: Retrieval) -> None:
    ablated = without(retrieval, "text")
    assert ablated.item_vectors.names == ("graph", "sequence")
    changed = ablated.item_vectors.block(SEQUENCE) != retrieval.item_vectors.block(SEQUENCE)
    assert changed.any()
    new = ablated.item_vectors.row_of["sweet-new"]
    assert not ablated.item_vectors.is_present_NM[new].any(), "its text was all there was of it"
    for one in ablated.retriever().retrieve(QUERY, limit=20):
        assert "text" not in one.evidence


def test_without_the_network_its_block_is_gone(retrieval: Retrieval) -> None:
    ablated = without(retrieval, SEQUENCE)
    assert ablated.item_vectors.names == ("graph", "text")
    np.testing.assert_array_equal(ablated.item_vectors.vectors_ND, items().vectors_ND)
    assert ablated.retriever().retrieve(QUERY, limit=3)


def test_without_the_graph_its_users_are_unknown(retrieval: Retrieval) -> None:
    ablated = without(retrieval, Modality.GRAPH)
    assert ablated.user_vectors is None
    found = ablated.retriever().retrieve(Query(user_id="sweet-user", history=()), limit=2)
    assert [one.evidence for one in found] == [{}, {}], "the most popular items"


def test_a_new_item_is_found_through_the_network_by_its_content_alone(
    retrieval: Retrieval,
) -> None:
    query = Query(history=QUERY.history, modalities=frozenset({SEQUENCE}))
    found = retrieval.retriever().retrieve(query, limit=20)
    assert "sweet-new" in {one.item_id for one in found if SEQUENCE in one.evidence}


def test_the_last_block_cannot_be_left_out(retrieval: Retrieval) -> None:
    with pytest.raises(ValueError, match="no block 'audio'"):
        without(retrieval, "audio")
    alone = without(without(retrieval, SEQUENCE), "text")
    with pytest.raises(ValueError, match="no block is left"):
        without(alone, "graph")
