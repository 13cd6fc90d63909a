"""Encoders that changed and rows that are out of step, made for real and mended as was said."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from embedders.probes import Probes
from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.store import Store
from tests.sommelier.conftest import Run, bring_texts
from tests.sommelier.doctoring import assert_mended, examined


def store_of(settings: Path) -> Store:
    return Store(settings.parent / "store")


def space_of(store: Store, modality: str) -> Space:
    (space,) = (
        one
        for (entity, _), one in store.spaces().items()
        if entity is Entity.ITEM and one.modality == modality
    )
    return space


def probes_of(settings: Path) -> tuple[Store, Space, Probes]:
    store = store_of(settings)
    space = space_of(store, "image")
    kept = store.probes(space)
    assert kept is not None
    return store, space, kept


def pictures(settings: Path) -> list[Path]:
    return sorted((settings.parent / "catalog/media/pictures").glob("*.png"))


def test_a_workspace_in_order_has_fresh_rows_and_the_same_encoders(run: Run, stored: Path) -> None:
    found = examined(run, stored)
    num_pictures = len(pictures(stored))
    assert found["image vectors"]["counts"]["fresh"] == num_pictures
    assert found["image vectors"]["counts"]["without content"] == 60 - num_pictures
    assert found["text vectors"]["counts"]["fresh"] == 60
    for what in ("image encoder", "image vectors", "text vectors"):
        assert found[what]["verdict"] == "good"
    assert "text encoder" not in found  # brought vectors have no probes


def test_other_weights_in_the_same_space_are_found_by_the_probes(
    run: Run, copy_of_stored: Path
) -> None:
    store, space, kept = probes_of(copy_of_stored)
    others_KD = np.roll(kept.vectors_KD, 1, axis=1)  # as an exchanged encoder had made them
    store.write_probes(space, replace(kept, vectors_KD=others_KD))
    found = assert_mended(run, copy_of_stored, "image encoder", repair="sommelier embed --repair")
    assert "makes other vectors of its probes" in found["seen"]


def test_rows_of_former_weights_are_counted_until_they_are_made_again(
    run: Run, copy_of_stored: Path
) -> None:
    store, space, kept = probes_of(copy_of_stored)
    store.write_probes(space, replace(kept, created=datetime.now(UTC)))  # a repair, interrupted
    found = assert_mended(run, copy_of_stored, "image vectors", repair="sommelier embed")
    assert found["counts"]["made by former weights"] == len(pictures(copy_of_stored))


def test_an_encoder_without_probes_gets_some(run: Run, copy_of_stored: Path) -> None:
    (kept,) = (copy_of_stored.parent / "store/probes").glob("*.safetensors")
    kept.unlink()
    assert_mended(run, copy_of_stored, "image encoder", repair="sommelier embed")


def test_damaged_probes_are_named(run: Run, copy_of_stored: Path) -> None:
    (kept,) = (copy_of_stored.parent / "store/probes").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:40])
    found = examined(run, copy_of_stored)
    assert str(kept) in found["image encoder"]["seen"]
    assert found["image encoder"]["repair"] == "delete it, then sommelier embed --repair"
    assert found["image vectors"]["verdict"] == "good"
    kept.unlink()
    assert run("embed", "--repair", "--settings", copy_of_stored).exit_code == 0
    assert examined(run, copy_of_stored)["image encoder"]["verdict"] == "good"


def test_changed_content_is_stale(run: Run, copy_of_stored: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(pictures(copy_of_stored)[0])
    found = assert_mended(run, copy_of_stored, "image vectors", repair="sommelier embed")
    assert found["counts"]["stale"] == 1


def test_an_item_with_content_and_without_a_vector_is_missing(
    run: Run, copy_of_stored: Path
) -> None:
    store = store_of(copy_of_stored)
    ids = [path.stem for path in pictures(copy_of_stored)[:3]]
    store.delete(ids, at=datetime.now(UTC), space=space_of(store, "image"))
    found = assert_mended(run, copy_of_stored, "image vectors", repair="sommelier embed")
    assert found["counts"]["missing"] == 3


def test_content_that_cannot_be_read_is_set_aside_and_no_fault(
    run: Run, copy_of_stored: Path
) -> None:
    pictures(copy_of_stored)[0].unlink()
    found = examined(run, copy_of_stored)["image vectors"]
    assert found["counts"]["set aside"] == 1
    assert found["verdict"] == "good"


def test_content_and_items_that_are_gone_are_counted(run: Run, copy_of_stored: Path) -> None:
    catalog = copy_of_stored.parent / "catalog/items.jsonl"
    items = [json.loads(line) for line in catalog.read_text().splitlines()]
    with_picture = [item for item in items if item.get("image_path")]
    del with_picture[0]["image_path"]
    items.remove(with_picture[1])
    catalog.write_text("\n".join(map(json.dumps, items)) + "\n")
    found = assert_mended(run, copy_of_stored, "image vectors", repair="sommelier embed")
    assert found["counts"]["of content that is gone"] == 1
    assert found["counts"]["orphaned"] == 1


def test_another_encoder_of_the_same_length_is_another_space(
    run: Run, copy_of_stored: Path
) -> None:
    before = space_of(store_of(copy_of_stored), "text").space_id
    settings = copy_of_stored.read_text()
    copy_of_stored.write_text(settings.replace('name = "toy"', 'name = "toy"\nrevision = "2"'))
    found = assert_mended(run, copy_of_stored, "text vectors", repair="sommelier embed")
    assert found["counts"]["missing"] == 60
    assert f"the store holds rows of {before} only" in found["seen"]


def test_a_file_of_another_encoder_under_the_old_name_is_suspected(
    run: Run, copy_of_stored: Path
) -> None:
    bring_texts(copy_of_stored.parent, seed=1)
    repair = "sommelier embed --accept-changed"
    found = assert_mended(run, copy_of_stored, "text vectors", repair=repair)
    assert found["counts"]["stale"] == 60


def test_an_encoder_that_cannot_be_opened_hides_no_other(run: Run, copy_of_stored: Path) -> None:
    (copy_of_stored.parent / "catalog/vectors/text_toy.parquet").unlink()
    found = examined(run, copy_of_stored)
    assert found["text vectors"]["verdict"] == "fault"
    assert "text_toy" in found["text vectors"]["seen"]
    assert found["image vectors"]["verdict"] == "good"
