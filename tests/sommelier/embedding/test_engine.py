"""A job is plain data from which another process makes the same embedder, or refuses."""

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders import registry
from embedders.items import Item, Modality
from embedders.registry import EncoderConfig
from sommelier.embedding.engine import EmbeddingJob
from tests.sommelier.embedding.test_engine_local import job


@pytest.fixture
def brought(tmp_path: Path) -> EmbeddingJob:
    """A job about two brought vectors."""
    path = tmp_path / "text_toy.parquet"
    pq.write_table(pa.table({"item_id": ["a", "b"], "vector": [[3.0, 4.0], [0.0, 1.0]]}), path)
    config = EncoderConfig(modality=Modality.TEXT, encoder="brought", name="toy")
    unfinished = job(tmp_path, encoder=config, brought={(Modality.TEXT, "toy"): path})
    return replace(unfinished, space=registry.create(config, catalog=unfinished).space)


def test_a_job_that_traveled_makes_the_same_embedder(brought: EmbeddingJob) -> None:
    arrived: EmbeddingJob = pickle.loads(pickle.dumps(brought))
    assert arrived == brought
    embedder = arrived.make_embedder()
    assert embedder.space == brought.space
    embeddings, _ = embedder.embed([Item(item_id="a", title="A")])
    assert embeddings.vectors_ND.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert arrived.store().root == brought.store_root


def test_a_machine_with_other_weights_is_refused(brought: EmbeddingJob) -> None:
    other = replace(brought, space=replace(brought.space, revision="other"))
    with pytest.raises(ValueError, match="install the same weights"):
        other.make_embedder()
