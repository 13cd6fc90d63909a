"""The engine of this process: what it says was embedded is in the store when it says so."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality, Reject
from embedders.known import Known
from embedders.registry import EncoderConfig
from embedders.vectors import Space
from feature_repo.store import Store
from sommelier.embedding.engine import EmbeddingJob
from sommelier.embedding.engine_local import LocalEngine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Lengths(Embedder):
    """A title as its length; an empty one has no content, `bad` cannot be read."""

    space = Space(modality=Modality.TEXT, encoder="lengths", revision="1", dim=2)

    def fingerprint(self, item: Item) -> str | None:
        return item.title or None

    def load(self, item: Item) -> str:
        if item.title == "bad":
            raise BadContent("cannot be read")
        return item.title

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        return np.array([(len(text), 1) for text in contents], dtype=np.float32)

    def is_imputed(self, item: Item) -> bool:
        return item.title == "guess"


def job(root: Path, **facts: Any) -> EmbeddingJob:
    return EmbeddingJob(
        **{
            "encoder": EncoderConfig(modality=Modality.TEXT, encoder="minilm"),
            "space": Lengths.space,
            "folder": root,
            "brought": {},
            "store_root": root / "store",
            "batch_rows": 2,
            "now": NOW,
            **facts,
        }
    )


def pairs(*titles: str, known: dict[int, Known] | None = None) -> list[tuple[Item, Known | None]]:
    return [
        (Item(item_id=f"{n}", title=title), (known or {}).get(n)) for n, title in enumerate(titles)
    ]


@pytest.mark.parametrize("num_workers", [0, 3])
def test_every_outcome_is_in_the_store_when_it_is_told(tmp_path: Path, num_workers: int) -> None:
    store = Store(tmp_path / "store")
    engine = LocalEngine(num_workers=num_workers)
    total = 0
    for outcome in engine.run(job(tmp_path), Lengths(), pairs(*"abcde")):
        total += outcome.num_embedded
        assert len(store.read(Lengths.space)) == total
    assert total == 5


def test_a_run_that_is_stopped_keeps_what_it_told(tmp_path: Path) -> None:
    outcomes = LocalEngine(num_workers=2).run(job(tmp_path), Lengths(), pairs(*"abcdefgh"))
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert list(Store(tmp_path / "store").read(Lengths.space).item_ids) == ["0", "1"]


def test_what_is_unchanged_lost_and_bad_is_told_and_what_is_imputed_is_marked(
    tmp_path: Path,
) -> None:
    known = {0: Known("a", NOW, NOW), 3: Known("was", NOW, NOW)}
    found = list(
        LocalEngine().run(
            job(tmp_path, batch_rows=10),
            Lengths(),
            pairs("a", "guess", "bad", "", "", known=known),
        )
    )
    assert [one.num_embedded for one in found] == [1]
    assert found[0].num_unchanged == 1
    assert found[0].lost_ids == ("3",)
    assert found[0].rejects == (
        Reject(source=Lengths.space.space_id, key="2", reason="cannot be read"),
    )
    assert Store(tmp_path / "store").imputed(Lengths.space) == {"1"}


def test_without_anything_new_nothing_is_written(tmp_path: Path) -> None:
    known = {0: Known("a", NOW, NOW)}
    (outcome,) = LocalEngine().run(job(tmp_path), Lengths(), pairs("a", known=known))
    assert (outcome.num_embedded, outcome.num_unchanged) == (0, 1)
    assert not (tmp_path / "store").exists()
