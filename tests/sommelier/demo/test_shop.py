"""The demo shop is a catalog like any other, the same for the same seed."""

import hashlib
import json
from pathlib import Path

from embedders.catalog import read
from sommelier.demo import shop as demo_shop

CONFIG = demo_shop.ShopConfig(num_items=40, num_users=4)


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_is_a_catalog_without_any_fault(shop: Path) -> None:
    catalog = read(shop / "catalog")
    assert catalog.num_items == 60
    assert catalog.rejects == ()
    behaviors = set(catalog.interactions["behavior"].to_pylist())
    assert behaviors == {"view", "cart", "purchase"}


def test_equal_seeds_write_equal_files(tmp_path: Path) -> None:
    first = demo_shop.write(tmp_path / "a", config=CONFIG)
    second = demo_shop.write(tmp_path / "b", config=CONFIG)
    assert digest(first) == digest(second)


def test_another_seed_is_another_shop(tmp_path: Path) -> None:
    other = demo_shop.ShopConfig(seed=1, num_items=40, num_users=4)
    first = demo_shop.write(tmp_path / "a", config=CONFIG)
    assert digest(first) != digest(demo_shop.write(tmp_path / "b", config=other))


def test_a_user_of_one_taste_likes_two_values_of_one_trait(tmp_path: Path) -> None:
    config = demo_shop.ShopConfig(num_items=40, num_users=40, has_one_taste=True)
    truth = json.loads((demo_shop.write(tmp_path, config=config) / "truth.json").read_text())
    cared = set()
    for likes_TV in truth["tastes"].values():
        num_liked_T = [sum(value > 0 for value in likes_V) for likes_V in likes_TV]
        assert sorted(num_liked_T) == [0, 0, 0, 2]
        cared.add(num_liked_T.index(2))
    assert cared == {0, 1, 2, 3}


def test_some_boxes_lack_a_modality_and_some_appear_late(shop: Path) -> None:
    items = list(read(shop / "catalog").items())
    assert any(item.image_path is None for item in items)
    assert any(item.audio_path is None for item in items)
    assert any(item.description is None for item in items)
    assert len({item.created_at for item in items}) > 2


def test_nobody_meets_a_box_before_it_appears(shop: Path) -> None:
    catalog = read(shop / "catalog")
    created = {item.item_id: item.created_at for item in catalog.items()}
    for event in catalog.interactions.to_pylist():
        appeared = created[event["item_id"]]
        assert appeared is not None
        assert event["timestamp"] >= appeared


def test_progress_is_told_item_by_item(tmp_path: Path) -> None:
    calls: list[None] = []
    demo_shop.write(tmp_path, config=CONFIG, on_item=lambda: calls.append(None))
    assert len(calls) == CONFIG.num_items
