"""Bad rows and bad files are counted, named and set aside; the rest is embedded, once."""

import json
import wave
from dataclasses import replace
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


def test_too_many_rejects_end_the_run_at_once_and_what_was_embedded_stays(
    run: Run, folder: Path
) -> None:
    picture = folder / "catalog/media/item-1.png"
    picture.write_bytes(picture.read_bytes()[:300])
    shown = embed(run, folder, "--max-rejects", "0", code=1)
    assert "1 rows were set aside, and --max-rejects allows 0: stopped" in shown
    assert "item-1" in reasons(folder)
    held = {space.modality: space for space in Store(folder / "store").spaces().values()}
    assert set(held) == {Modality.TEXT, Modality.IMAGE}, "the sounds come after the pictures"
    pictures = Store(folder / "store").read(held[Modality.IMAGE])
    assert list(pictures.item_ids) == ["item-0", "item-2", "item-3"]
    assert row(embed(run, folder, "--max-rejects", "1"), "image") == [0, 3, 1, 0]
    spaces = Workspace(load(folder / "sommelier.toml")).spaces()
    assert [space.modality for space in spaces] == [Modality.AUDIO, Modality.IMAGE, Modality.TEXT]


def rewrite(folder: Path, lines: list[str]) -> None:
    (folder / "catalog/items.jsonl").write_text("\n".join(lines))


def held(folder: Path) -> dict[Modality | None, list[str]]:
    """The ids whose vectors the store holds, by modality."""
    store = Store(folder / "store")
    return {space.modality: list(store.read(space).item_ids) for space in store.spaces().values()}


def test_an_item_that_left_the_catalog_is_taken_away_and_may_come_back(
    run: Run, folder: Path
) -> None:
    embed(run, folder)
    lines = (folder / "catalog/items.jsonl").read_text().splitlines()
    rewrite(folder, lines[:2] + lines[3:])
    shown = embed(run, folder)
    assert "1 items are gone from the catalog: taken away" in shown
    left = ["item-0", "item-1", "item-3"]
    assert set(map(tuple, held(folder).values())) == {tuple(left)}
    assert list(Store(folder / "store").profile_ids()) == left
    assert "gone from the catalog" not in embed(run, folder), "once is enough"

    rewrite(folder, lines)
    back = embed(run, folder)
    assert [row(back, name) for name in ("text", "image", "audio")] == [[1, 3, 0, 0]] * 3
    assert {len(ids) for ids in held(folder).values()} == {4}
    assert len(list(Store(folder / "store").profile_ids())) == 4


def test_a_picture_that_an_item_lost_is_taken_away_and_nothing_else_of_it(
    run: Run, folder: Path
) -> None:
    embed(run, folder)
    lines = (folder / "catalog/items.jsonl").read_text().splitlines()
    bare = json.loads(lines[2])
    del bare["image_path"]
    rewrite(folder, [*lines[:2], json.dumps(bare), lines[3]])
    shown = embed(run, folder)
    assert "1 image vectors were taken away" in shown
    assert row(shown, "image") == [0, 3, 0, 1]
    assert held(folder)[Modality.IMAGE] == ["item-0", "item-1", "item-3"]
    assert len(held(folder)[Modality.AUDIO]) == 4
    assert "taken away" not in embed(run, folder)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty items with brought vectors and nothing else."""
    (tmp_path / "catalog").mkdir()
    lines = [json.dumps({"item_id": f"i{n:02}", "title": f"Item {n}"}) for n in range(60)]
    (tmp_path / "catalog/items.jsonl").write_text("\n".join(lines))
    bring(tmp_path, seed=0)
    (tmp_path / "sommelier.toml").write_text(
        SETTINGS.partition('[[encoders]]\nmodality = "image')[0]
    )
    return tmp_path


def bring(folder: Path, *, seed: int, num_same: int = 0) -> None:
    """Vectors of a seed, the first ones those of seed 0."""
    same, other = (np.random.default_rng(one).normal(size=(60, 3)) for one in (0, seed))
    rows = {f"i{n:02}": (same if n < num_same else other)[n].tolist() for n in range(60)}
    vectors(folder / "catalog/vectors/text_toy.parquet", rows)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "store").rglob("*") if path.is_file())


def test_half_a_catalog_is_not_taken_away_without_a_word(run: Run, many: Path) -> None:
    embed(run, many)
    before = files(many)
    lines = (many / "catalog/items.jsonl").read_text().splitlines()
    rewrite(many, [*lines[:30], json.dumps({"item_id": "new", "title": "New"})])
    shown = embed(run, many, code=1)
    assert "30 of 60 stored items are not in the catalog any more" in shown
    assert "--allow-deletions" in shown
    assert files(many) == before

    shown = embed(run, many, "--allow-deletions")
    assert "30 items are gone from the catalog: taken away" in shown
    assert held(many)[Modality.TEXT] == [f"i{n:02}" for n in range(30)]


def test_a_share_that_the_settings_allow_is_taken_away(run: Run, many: Path) -> None:
    embed(run, many)
    rewrite(many, (many / "catalog/items.jsonl").read_text().splitlines()[:30])
    shown = embed(run, many, "--set", "embedding.max_deleted_share=0.5")
    assert "30 items are gone" in shown


def test_vectors_that_vanished_from_a_brought_file_are_not_taken_away_without_a_word(
    run: Run, many: Path
) -> None:
    embed(run, many)
    vectors(many / "catalog/vectors/text_toy.parquet", {"i00": [1.0, 2.0, 3.0]})
    shown = embed(run, many, code=1)
    assert "59 of 60 stored items with text vectors show no such content any more" in shown
    assert len(held(many)[Modality.TEXT]) == 60
    assert "59 text vectors were taken away" in embed(run, many, "--allow-deletions")
    assert held(many)[Modality.TEXT] == ["i00"]


def test_a_file_of_another_encoder_under_the_same_name_is_refused_unless_accepted(
    run: Run, many: Path
) -> None:
    embed(run, many)
    before = Store(many / "store")
    (space,) = before.spaces().values()
    old_ND = before.read(space).vectors_ND
    bring(many, seed=1)
    shown = embed(run, many, code=1)
    assert "60 of 60 known text vectors of 'toy' differ from before" in shown
    assert "--accept-changed" in shown
    np.testing.assert_array_equal(Store(many / "store").read(space).vectors_ND, old_ND)

    assert row(embed(run, many, "--accept-changed"), "text") == [60, 0, 0, 0]
    assert not np.allclose(Store(many / "store").read(space).vectors_ND, old_ND)


def test_a_few_brought_vectors_may_change_as_they_like(run: Run, many: Path) -> None:
    embed(run, many)
    bring(many, seed=1, num_same=40)
    assert row(embed(run, many), "text") == [20, 40, 0, 0]


def test_an_encoder_that_contradicts_its_space_is_refused_and_repaired(
    run: Run, folder: Path
) -> None:
    embed(run, folder)
    store = Store(folder / "store")
    space = next(one for one in store.spaces().values() if one.modality is Modality.IMAGE)
    probes = store.probes(space)
    assert probes is not None
    store.write_probes(space, replace(probes, vectors_KD=probes.vectors_KD[:, ::-1].copy()))

    shown = embed(run, folder, code=1)
    assert "makes other vectors than before" in shown
    assert "--repair" in shown
    repaired = embed(run, folder, "--repair")
    assert row(repaired, "image") == [4, 0, 0, 0]
    assert row(repaired, "audio") == [0, 4, 0, 0]
    assert row(embed(run, folder), "image") == [0, 4, 0, 0]


def test_many_small_parts_are_merged_at_the_end(run: Run, many: Path) -> None:
    embed(run, many, "--set", "embedding.batch_rows=1")
    view = next((many / "store/parts").glob("item_text_*"))
    assert len(list(view.glob("2*.parquet"))) == 60, "not worth it yet"
    bring(many, seed=1)
    embed(run, many, "--accept-changed", "--set", "embedding.batch_rows=1")
    assert len(list(view.glob("2*.parquet"))) < 5
    assert row(embed(run, many), "text") == [0, 60, 0, 0]


def test_an_engine_that_is_not_there_is_named(run: Run, many: Path) -> None:
    assert "embedding.engine" in embed(run, many, "--engine", "spark", code=1)


def test_a_brought_file_that_is_not_there_is_named(run: Run, folder: Path) -> None:
    (folder / "catalog/vectors/text_toy.parquet").unlink()
    assert "has no vectors/text_toy.parquet" in embed(run, folder, code=1)


def test_a_graph_without_any_event_fails_before_the_work_begins(run: Run, folder: Path) -> None:
    shown = embed(run, folder, "--set", 'encoders.2={modality="graph", encoder="lightgcn"}', code=1)
    assert "none of the catalog's 0 interactions has a timestamp" in shown
    assert not (folder / "store").exists()
