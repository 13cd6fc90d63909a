"""A manifest goes to JSON and back without loss."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedders.items import Modality
from retrieval.curve import CurvePoint
from retrieval.manifest import NAME, Manifest
from retrieval.pooled import PoolingConfig
from tests.retrieval.small_world import GRAPH, TEXT


@pytest.mark.parametrize("as_of", [None, datetime(2024, 6, 1, tzinfo=UTC)])
def test_every_fact_comes_back(tmp_path: Path, as_of: datetime | None) -> None:
    manifest = Manifest(
        kind="ivf",
        reasons=("large.", "it fits."),
        effort=8,
        curve=(
            CurvePoint(effort=4, recall=0.97, p50_ms=0.5, p99_ms=1.5),
            CurvePoint(effort=8, recall=0.997, p50_ms=0.75, p99_ms=2.0),
        ),
        target_recall=0.99,
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


def test_a_recall_below_the_target_is_warned_of() -> None:
    facts: dict[str, Any] = {"spaces": (), "dim": 0, "num_items": 0, "num_indexed": 0}
    facts |= {"num_users": 0, "as_of": None, "pooling": PoolingConfig(), "files": {}}
    facts |= {"versions": {}, "kind": "ivf", "effort": 8, "target_recall": 0.99}
    assert Manifest(recall_against_exact=0.99, **facts).warning is None
    warning = Manifest(recall_against_exact=0.975, **facts).warning
    assert warning is not None
    assert "0.9750 of the true first hundred, less than the 0.99 aimed at" in warning
