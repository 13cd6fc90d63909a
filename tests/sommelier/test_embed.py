"""Bad rows and bad files are counted, named and set aside; the rest is embedded, once."""

import json
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from embedders.items import Modality
from feature_repo.store import Store
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

SETTINGS = """
[[encoders]]
modality = "text"
encoder = "brought"
name = "toy"
[[encoders]]
modality = "image"
encoder = "hog"
[[encoders]]
modality = "audio"
encoder = "fbank"
"""
NUM_ITEMS = 4


def vectors(path: Path, rows: dict[str, list[float]]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item_id": list(rows), "vector": list(rows.values())}), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good items with a picture, a sound and a brought vector of three dimensions each."""
    catalog = tmp_path / "catalog"
    (catalog / "media").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for n in range(NUM_ITEMS):
        item_id = f"item-{n}"
        pixels = rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(catalog / f"media/{item_id}.png")
        with wave.open(str(catalog / f"media/{item_id}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(16000)
            sound.writeframes(rng.integers(-9000, 9000, 8000, dtype=np.int16).tobytes())
        paths = {"image_path": f"media/{item_id}.png", "audio_path": f"media/{item_id}.wav"}
        lines.append(json.dumps({"item_id": item_id, "title": f"Item {n}", **paths}))
    (catalog / "items.jsonl").write_text("\n".join(lines))
    vectors(
        catalog / "vectors" / "text_toy.parquet",
        {f"item-{n}": rng.normal(size=3).tolist() for n in range(NUM_ITEMS)},
    )
    (tmp_path / "sommelier.toml").write_text(SETTINGS)
    return tmp_path


def embed(run: Run, folder: Path, *words: str, code: int = 0) -> str:
    result = run("embed", "--settings", folder / "sommelier.toml", *words)
    assert result.exit_code == code, result.output + result.stderr
    return str(result.output + result.stderr)


def row(shown: str, modality: str) -> list[int]:
    """embedded, unchanged, rejected, missing."""
    line = next(line for line in shown.splitlines() if f"│ {modality}" in line)
    return [int(cell) for cell in line.split("│")[3:7]]


def reasons(folder: Path) -> dict[str, str]:
    return {one.key: one.reason for one in Store(folder / "store").rejects()}


def test_a_second_run_embeds_nothing(run: Run, folder: Path) -> None:
    first = embed(run, folder)
    assert [row(first, name) for name in ("text", "image", "audio")] == [[4, 0, 0, 0]] * 3
    parts = sorted(path for path in (folder / "store").rglob("*.parquet"))
    second = embed(run, folder)
    assert [row(second, name) for name in ("text", "image", "audio")] == [[0, 4, 0, 0]] * 3
    assert sorted(path for path in (folder / "store").rglob("*.parquet")) == parts


def test_only_changed_content_is_embedded_again(run: Run, folder: Path) -> None:
    embed(run, folder)
    picture = folder / "catalog/media/item-2.png"
    Image.new("RGB", (48, 48), "teal").save(picture)
    assert row(embed(run, folder), "image") == [1, 3, 0, 0]


def test_a_truncated_picture_is_set_aside_and_named(run: Run, folder: Path) -> None:
    picture = folder / "catalog/media/item-1.png"
    picture.write_bytes(picture.read_bytes()[:300])
    shown = embed(run, folder)
    assert row(shown, "image") == [3, 0, 1, 0]
    assert row(shown, "audio") == [4, 0, 0, 0]
    assert "1 rows were set aside" in shown
    assert "item-1" in reasons(folder)


def test_an_empty_sound_is_set_aside(run: Run, folder: Path) -> None:
    (folder / "catalog/media/item-3.wav").write_bytes(b"")
    assert row(embed(run, folder), "audio") == [3, 0, 1, 0]


def test_a_vector_with_a_hole_is_set_aside(run: Run, folder: Path) -> None:
    good = {f"item-{n}": [1.0, float(n), 0.5] for n in range(3)}
    bad = {"item-3": [1.0, float("nan"), 0.5]}
    vectors(folder / "catalog/vectors/text_toy.parquet", good | bad)
    assert row(embed(run, folder), "text") == [3, 0, 1, 0]
    assert "not finite" in reasons(folder)["item-3"]


def test_a_vector_of_another_length_is_set_aside(run: Run, folder: Path) -> None:
    good = {f"item-{n}": [1.0, float(n), 0.5] for n in range(3)}
    vectors(folder / "catalog/vectors/text_toy.parquet", good | {"item-3": [1.0, 2.0]})
    assert row(embed(run, folder), "text") == [3, 0, 1, 0]
    assert reasons(folder)["item-3"].endswith("its vector has 2 dimensions, expected 3")


def test_a_bad_row_is_counted_and_the_others_are_kept(run: Run, folder: Path) -> None:
    items = folder / "catalog/items.jsonl"
    items.write_text(items.read_text() + '\n{"item_id": "item-9"}\n')
    shown = embed(run, folder)
    assert "4 items" in shown
    assert "items item-9: has no title" in shown


def test_rejects_are_noted_once(run: Run, folder: Path) -> None:
    (folder / "catalog/media/item-3.wav").write_bytes(b"")
    embed(run, folder)
    embed(run, folder)
    assert len(list((folder / "store/rejects").glob("*.parquet"))) == 1


def test_too_many_rejects_fail_after_all_else_is_done(run: Run, folder: Path) -> None:
    (folder / "catalog/media/item-3.wav").write_bytes(b"")
    embed(run, folder, "--max-rejects", "1")
    shown = embed(run, folder, "--max-rejects", "0", code=1)
    assert "--max-rejects allows 0" in shown
    spaces = Workspace(load(folder / "sommelier.toml")).spaces()
    assert [space.modality for space in spaces] == [Modality.AUDIO, Modality.IMAGE, Modality.TEXT]


def test_a_brought_file_that_is_not_there_is_named(run: Run, folder: Path) -> None:
    (folder / "catalog/vectors/text_toy.parquet").unlink()
    assert "has no vectors/text_toy.parquet" in embed(run, folder, code=1)


def test_a_graph_without_any_event_fails_before_the_work_begins(run: Run, folder: Path) -> None:
    shown = embed(run, folder, "--set", 'encoders.2={modality="graph", encoder="lightgcn"}', code=1)
    assert "none of the catalog's 0 interactions has a timestamp" in shown
    assert not (folder / "store").exists()
