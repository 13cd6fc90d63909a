"""A manifest goes to JSON and back without loss."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.items import Modality
from retrieval.manifest import NAME, Manifest
from retrieval.pooled import PoolingConfig
from tests.retrieval.small_world import GRAPH, TEXT


@pytest.mark.parametrize("as_of", [None, datetime(2024, 6, 1, tzinfo=UTC)])
def test_every_fact_comes_back(tmp_path: Path, as_of: datetime | None) -> None:
    manifest = Manifest(
        kind="flat",
        spaces=(GRAPH, TEXT),
        dim=10,
        num_items=3,
        num_indexed=2,
        num_users=0,
        as_of=as_of,
        pooling=PoolingConfig(weights={Modality.TEXT: 0.5}, behavior_weights={"buy": 2.0}),
        recall_against_exact=0.997,
        files={"index.safetensors": "00"},
        versions={"numpy": "2"},
    )
    (tmp_path / NAME).write_text(manifest.to_json(), encoding="utf-8")
    assert Manifest.read(tmp_path) == manifest
