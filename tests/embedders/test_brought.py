"""Vectors that the user brings: looked up, centered, scaled, and refused row by row."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders import brought
from embedders.base import BadContent
from embedders.brought import READ_ROWS, BroughtEmbedder
from embedders.items import Item, Modality
from tests.embedders.contract import EmbedderContract, Make, World

ROWS: list[tuple[Any, Any]] = [("a", [3.0, 4.0]), ("b", [0.0, 2.0]), ("c", [-1.0, 0.0])]


def write(path: Path, rows: Sequence[tuple[Any, Any]], kind: pa.DataType | None = None) -> Path:
    ids, vectors = zip(*rows, strict=True)
    kind = kind or pa.list_(pa.float32())
    table = pa.table({"item_id": pa.array(ids), "vector": pa.array(vectors, kind)})
    pq.write_table(table, path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audio_ears.parquet"


def embedder_of(path: Path, **options: Any) -> BroughtEmbedder:
    return BroughtEmbedder(path, modality=Modality.AUDIO, name="ears", **options)


def item(item_id: str) -> Item:
    return Item(item_id=item_id, title="T")


class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, path: Path) -> Make:
        rows = [(f"{n}", [float(n), 5.0, 1.0]) for n in range(5)]
        bad = [("short", [1.0]), ("holed", [1.0, float("nan"), 1.0]), ("absent", None)]
        write(path, [*rows, ("twin", [0.0, 5.0, 1.0]), *bad])
        return lambda _batch_size: embedder_of(path)

    @pytest.fixture
    def world(self) -> World:
        return World(
            good=[item(f"{n}") for n in range(5)],
            twin=item("twin"),
            bare=item("stranger"),
            damaged=[item("short"), item("holed"), item("absent")],
        )


def test_vectors_are_looked_up_by_item_and_normalized(path: Path) -> None:
    embedder = embedder_of(write(path, ROWS))

    embeddings, rejects = embedder.embed([item("c"), item("a"), item("stranger")])

    assert rejects == []
    assert embeddings.item_ids == ["c", "a"]
    np.testing.assert_allclose(embeddings.vectors_ND, [[-1, 0], [0.6, 0.8]], rtol=1e-6)


def test_vectors_keep_their_length_where_that_is_wanted(path: Path) -> None:
    embedder = embedder_of(write(path, [*ROWS, ("z", [0.0, 0.0])]), is_normalized=False)

    embeddings, rejects = embedder.embed([item("a"), item("z")])

    assert rejects == []
    np.testing.assert_array_equal(embeddings.vectors_ND, [[3, 4], [0, 0]])


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.float64()),
        pa.list_(pa.float16()),
        pa.list_(pa.int32()),
        pa.list_(pa.float32(), 2),
    ],
    ids=str,
)
def test_any_list_of_numbers_will_do(path: Path, kind: pa.DataType) -> None:
    rows = ROWS
    if pa.types.is_float16(kind.value_type):
        rows = [(item_id, list(np.array(vector, np.float16))) for item_id, vector in ROWS]

    embeddings, _ = embedder_of(write(path, rows, kind)).embed([item("a")])

    np.testing.assert_allclose(embeddings.vectors_ND, [[0.6, 0.8]], rtol=1e-6)


def test_ids_may_be_numbers(path: Path) -> None:
    embedder = embedder_of(write(path, [(7, [1.0, 0.0]), (8, [0.0, 1.0])]))

    assert embedder.fingerprint(item("7")) is not None


def test_bad_rows_are_rejected_one_by_one_and_the_most_frequent_length_wins(path: Path) -> None:
    rows = [
        *ROWS,
        ("short", [1.0]),
        ("absent", None),
        ("nan", [float("nan"), 1.0]),
        ("inf", [float("inf"), 1.0]),
        ("hole", [None, 1.0]),
        ("zero", [0.0, 0.0]),
        ("twice", [1.0, 1.0]),
        ("twice", [2.0, 1.0]),
        (None, [1.0, 2.0]),
    ]
    embedder = embedder_of(write(path, rows))

    embeddings, rejects = embedder.embed(
        [item(i) for i in dict.fromkeys(row[0] for row in rows) if i]
    )

    assert embedder.space.dim == 2
    assert embeddings.item_ids == ["a", "b", "c"]
    not_finite = "its vector holds a value that is missing or not finite"
    where = f"in {path.name}: "
    assert [(reject.key, reject.reason.split(where)[1]) for reject in rejects] == [
        ("short", "its vector has 1 dimensions, expected 2"),
        ("absent", "its vector has 0 dimensions, expected 2"),
        ("nan", not_finite),
        ("inf", not_finite),
        ("hole", not_finite),
        ("zero", "its vector is all zeros once prepared, so it has no direction"),
        ("twice", "it has 2 vectors: keep one"),
    ]


def test_a_declared_length_beats_the_most_frequent_one(path: Path) -> None:
    embedder = embedder_of(write(path, [*ROWS, ("d", [1.0, 2.0, 2.0])]), dim=3)

    assert embedder.space.dim == 3
    assert embedder.embed([item("d")])[0].item_ids == ["d"]
    with pytest.raises(BadContent, match="has 2 dimensions, expected 3"):
        embedder.load(item("a"))


def test_a_bad_row_does_not_move_the_mean(path: Path) -> None:
    clean = embedder_of(write(path, ROWS), center=True).embed([item("a")])[0]
    dirty = [*ROWS, ("nan", [float("nan"), 9.0]), ("long", [9.0, 9.0, 9.0])]

    same = embedder_of(write(path, dirty), center=True).embed([item("a")])[0]

    np.testing.assert_array_equal(clean.vectors_ND, same.vectors_ND)


def test_centering_subtracts_the_mean_over_the_file(path: Path) -> None:
    rows = [("a", [101.0, 1.0]), ("b", [99.0, 1.0]), ("c", [100.0, 2.0]), ("d", [100.0, 0.0])]

    embeddings, _ = embedder_of(write(path, rows), center=True).embed([item(i) for i in "abcd"])

    np.testing.assert_allclose(embeddings.vectors_ND, [[1, 0], [-1, 0], [0, 1], [0, -1]])


def test_scaling_keeps_one_outlier_from_hiding_all_the_others(path: Path) -> None:
    generator = np.random.default_rng(1)
    matrix = generator.normal(0.2, 0.1, (200, 2))
    matrix[:, 1] *= 1000
    matrix[0, 0] = 7.9e13
    rows = [(f"{n}", row.tolist()) for n, row in enumerate(matrix)]

    embedder = embedder_of(write(path, rows), scale=True, is_normalized=False)
    vectors_ND = embedder.embed([item(f"{n}") for n in range(200)])[0].vectors_ND

    assert np.abs(vectors_ND).max() == 3
    assert vectors_ND[0, 0] == 3
    np.testing.assert_allclose(vectors_ND[1:].std(axis=0), [1, 1], atol=0.2)


def test_scaling_leaves_constant_and_sparse_dimensions_usable(path: Path) -> None:
    rows = [(f"{n}", [5.0, float(n == 0), float(n)]) for n in range(10)]

    embedder = embedder_of(write(path, rows), scale=True, is_normalized=False)
    vectors_ND = embedder.embed([item(f"{n}") for n in range(10)])[0].vectors_ND

    assert not vectors_ND[:, 0].any()
    assert vectors_ND[0, 1] == 3
    assert not vectors_ND[1:, 1].any()


def test_values_too_large_to_be_squared_still_have_a_direction(path: Path) -> None:
    embeddings, rejects = embedder_of(write(path, [("a", [3e30, 4e30])])).embed([item("a")])

    assert rejects == []
    np.testing.assert_allclose(embeddings.vectors_ND, [[0.6, 0.8]], rtol=1e-6)


def test_a_file_may_grow_and_change_within_its_space(path: Path, tmp_path: Path) -> None:
    first = embedder_of(write(path, ROWS)).space
    other = embedder_of(write(tmp_path / "other.parquet", ROWS[:2])).space

    assert (first.modality, first.encoder, first.revision) == (Modality.AUDIO, "ears", "1")
    assert first == other


def test_the_revision_tells_the_encoders_apart_that_made_the_file(path: Path) -> None:
    write(path, ROWS)

    spaces = [embedder_of(path, revision=each).space for each in ("2023", "2024")]

    assert [space.revision for space in spaces] == ["2023", "2024"]
    assert spaces[0].space_id != spaces[1].space_id


@pytest.mark.parametrize("option", ["center", "scale"])
def test_where_every_vector_depends_on_all_rows_another_file_is_another_space(
    path: Path, tmp_path: Path, option: str
) -> None:
    first = embedder_of(write(path, ROWS), **{option: True}).space
    again = embedder_of(write(tmp_path / "copy.parquet", ROWS), **{option: True}).space
    other = embedder_of(write(tmp_path / "other.parquet", ROWS[:2]), **{option: True}).space
    named = embedder_of(path, revision="2024", **{option: True}).space

    assert first == again
    assert len(first.revision) == 12
    assert first.revision != other.revision
    assert named.revision == f"2024-{first.revision}"


def test_the_space_names_all_that_was_done(path: Path) -> None:
    write(path, ROWS)
    options = [{}, {"center": True}, {"scale": True}, {"center": True, "scale": True}]
    options += [{"is_normalized": False}]

    assert len({embedder_of(path, **each).space.space_id for each in options}) == 5


def test_a_fingerprint_follows_the_values_of_its_own_row(path: Path, tmp_path: Path) -> None:
    before = embedder_of(write(path, ROWS))
    after = embedder_of(write(tmp_path / "b.parquet", [("a", [3.0, 4.5]), *ROWS[1:]]))

    assert before.fingerprint(item("a")) != after.fingerprint(item("a"))
    assert before.fingerprint(item("b")) == after.fingerprint(item("b"))
    assert before.fingerprint(item("stranger")) is None


def test_vectors_trained_on_events_say_their_cut(path: Path) -> None:
    cut = datetime(2020, 1, 1, tzinfo=UTC)

    assert embedder_of(write(path, ROWS), until=cut).until == cut
    assert embedder_of(path).until is None


def test_a_file_that_is_not_as_expected_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a parquet file with the columns item_id"):
        embedder_of(tmp_path / "nowhere.parquet")
    path.write_text("not parquet")
    with pytest.raises(ValueError, match="expected a parquet file"):
        embedder_of(path)
    pq.write_table(pa.table({"item_id": ["a"], "values": [[1.0]]}), path)
    with pytest.raises(ValueError, match="item_id and vector"):
        embedder_of(path)
    pq.write_table(pa.table({"item_id": ["a"], "vector": ["text"]}), path)
    for options in ({}, {"dim": 1}):
        with pytest.raises(ValueError, match="a list of numbers"):
            embedder_of(path, **options)
    with pytest.raises(ValueError, match=r"no vector of 5 finite values; its lengths are \[2\]"):
        embedder_of(write(path, ROWS), dim=5)
    with pytest.raises(ValueError, match="has no vectors"):
        embedder_of(write(path, [("a", None)]))


def long_rows(num_rows: int) -> list[tuple[Any, Any]]:
    """More rows than are read at once, of known faults: every 7th is short, two are repeated."""
    generator = np.random.default_rng(2)
    rows: list[tuple[Any, Any]] = [
        (f"item-{n}", generator.normal(n, 1, 2 if n % 7 == 0 else 3).tolist())
        for n in range(num_rows)
    ]
    return [*rows, ("item-1", [0.0, 0.0, 1.0]), (f"item-{num_rows - 1}", [0.0, 0.0, 1.0])]


def test_a_file_longer_than_what_is_read_at_once_is_one_file(path: Path) -> None:
    num_rows = 2 * READ_ROWS + 70  # whose last row is of the usual length
    rows = long_rows(num_rows)
    embedder = embedder_of(write(path, rows), center=True, scale=True, is_normalized=False)
    good = {i: vector for i, vector in rows if len(vector) == 3}
    del good["item-1"], good[f"item-{num_rows - 1}"]

    embeddings, rejects = embedder.embed([item(f"item-{n}") for n in range(num_rows)])

    assert embeddings.item_ids == list(good)
    assert len(rejects) == num_rows - len(good)
    matrix = np.array(list(good.values()), dtype=np.float32).astype(np.float64)
    low, middle, high = np.quantile(matrix, [0.25, 0.5, 0.75], axis=0)
    scaled = np.clip((matrix - middle) / ((high - low) / 1.349), -3, 3)
    np.testing.assert_allclose(embeddings.vectors_ND, scaled - scaled.mean(axis=0), atol=1e-6)


def test_a_file_that_begins_with_a_rare_length_is_read_by_its_most_frequent_one(
    path: Path,
) -> None:
    embedder = embedder_of(write(path, [("odd", [1.0, 2.0, 3.0]), *ROWS]))

    assert embedder.space.dim == 2
    assert embedder.embed([item("a"), item("odd")])[0].item_ids == ["a"]


def test_a_large_file_is_scaled_by_a_sample_that_depends_on_no_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(4)
    rows = [(f"{n}", row.tolist()) for n, row in enumerate(generator.normal(5, 2, (3000, 2)))]
    items = [item(i) for i, _ in rows]
    options = {"scale": True, "is_normalized": False}
    write(path, rows, pa.list_(pa.float64()))
    whole = embedder_of(path, **options).embed(items)[0].vectors_ND

    monkeypatch.setattr(brought, "SAMPLE_VALUES", 2 * 1000)
    sampled = embedder_of(path, **options).embed(items)[0].vectors_ND
    backward = write(tmp_path / "backward.parquet", rows[::-1], pa.list_(pa.float64()))
    again = embedder_of(backward, **options).embed(items)[0].vectors_ND

    assert not np.array_equal(sampled, whole)
    np.testing.assert_allclose(sampled, whole, atol=0.2)
    np.testing.assert_array_equal(sampled, again)


PEAK = """
import sys
from pathlib import Path
from embedders.brought import READ_ROWS, BroughtEmbedder
from embedders.items import Item, Modality
embedder = BroughtEmbedder(Path(sys.argv[1]), modality=Modality.AUDIO, name="ears", center=True)
assert embedder.fingerprint(Item(item_id="7", title="")) is not None
status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def test_ten_times_the_rows_do_not_take_ten_times_the_memory(
    tmp_path: Path, repository: Path
) -> None:
    peaks_mb = []
    for num_rows in (4_000, 40_000):
        values = np.random.default_rng(0).standard_normal(num_rows * 256, dtype=np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(values, 256)
        table = pa.table({"item_id": [str(n) for n in range(num_rows)], "vector": vectors})
        pq.write_table(table, tmp_path / f"{num_rows}.parquet")
        run = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path / f"{num_rows}.parquet")],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks_mb.append(int(run.stdout))

    # The rows themselves are 4 and 41 MB, and twice that as float64.
    assert peaks_mb[1] - peaks_mb[0] < 40


@pytest.mark.shared_data
def test_movielens_brings_1807_trailers_and_its_outliers_are_tamed(shared_data: Path) -> None:
    vectors = shared_data / "movielens/vectors"
    ids = pq.read_table(vectors / "audio_ivector100.parquet")["item_id"].to_pylist()
    trailers = [item(item_id) for item_id in ids]

    audio = embedder_of(vectors / "audio_ivector100.parquet", center=True)
    embeddings, rejects = audio.embed(trailers)
    assert embeddings.vectors_ND.shape == (1807, 100)
    assert rejects == []

    image = BroughtEmbedder(
        vectors / "image_avf.parquet", modality=Modality.IMAGE, name="avf", scale=True, center=True
    )
    embeddings, rejects = image.embed(trailers)
    assert embeddings.vectors_ND.shape == (1807, 107)
    assert rejects == []
    assert (embeddings.vectors_ND**2).mean(axis=0).max() < 0.1  # no dimension owns the cosine
