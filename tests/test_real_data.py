"""Real catalogs from the folder into the store and back: nothing is lost, moved or made twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from embedders.base import Embedder
from embedders.catalog import Catalog, read
from embedders.columns import Columns
from embedders.embed import Batch, embed
from embedders.items import Modality
from embedders.known import joined
from embedders.registry import EncoderConfig, create
from feature_repo.store import Store

pytestmark = [pytest.mark.shared_data]

MOVIELENS = Columns(description=("plot", "llm_description"), category=("genres",))
LASTFM = Columns(description=("text", "llm_description"))
EMOTIFY = Columns(category=("genre",))


def written(store: Store, embedder: Embedder, catalog: Catalog) -> list[Batch]:
    """One night's run: what is not in the store yet is embedded and written."""
    known = store.known(embedder.space)
    pairs = ((item, row) for _, item, row in joined(catalog.items(), known) if item is not None)
    batches = list(embed(embedder, pairs))
    for batch in batches:
        if len(batch.embeddings):
            store.write(
                batch.embeddings,
                content_hashes=batch.content_hashes,
                event_timestamps=batch.event_timestamps,
            )
    return batches


def of_file(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Ids in order, and their vectors as they lie in the file."""
    table = pq.read_table(path).sort_by("item_id")
    return table["item_id"].to_pylist(), np.array(table["vector"].to_pylist(), dtype=np.float64)


def units(vectors_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


BROUGHT = [
    ("movielens", MOVIELENS, Modality.AUDIO, "ivector100", True),
    ("movielens", MOVIELENS, Modality.AUDIO, "ivector20", False),
    ("movielens", MOVIELENS, Modality.IMAGE, "mobilenetv2", True),
    ("lastfm", LASTFM, Modality.AUDIO, "vggish", True),
    ("lastfm", LASTFM, Modality.AUDIO, "whisper", False),
    ("lastfm", LASTFM, Modality.TEXT, "minilm", False),
]


@pytest.mark.parametrize(("data_set", "columns", "modality", "name", "center"), BROUGHT)
def test_brought_vectors_come_back_from_the_store_as_they_were_brought(
    tmp_path: Path,
    shared_data: Path,
    data_set: str,
    columns: Columns,
    modality: Modality,
    name: str,
    center: bool,
) -> None:
    catalog = read(shared_data / data_set, columns=columns)
    config = EncoderConfig(modality=modality, encoder="brought", name=name, center=center)
    embedder = create(config, catalog=catalog)
    store = Store(tmp_path / "store")

    batches = written(store, embedder, catalog)
    found = store.read(embedder.space)

    ids, vectors_ND = of_file(shared_data / data_set / f"vectors/{modality}_{name}.parquet")
    assert [reject for batch in batches for reject in batch.rejects] == []
    assert list(found.item_ids) == ids
    expected = units(vectors_ND - vectors_ND.mean(axis=0) * center)
    np.testing.assert_allclose(found.vectors_ND, expected, atol=1e-6)
    # Another night, another embedder of the same file: nothing is left to do.
    again = written(store, create(config, catalog=catalog), catalog)
    assert sum(len(batch.embeddings) for batch in again) == 0
    assert sum(batch.num_unchanged for batch in again) == len(ids)


def test_lastfm_is_read_whole_with_its_own_columns(tmp_path: Path, shared_data: Path) -> None:
    catalog = read(shared_data / "lastfm", columns=LASTFM)
    store = Store(tmp_path / "store")

    store.write_profiles(catalog.items())
    profiles = store.profiles()

    assert catalog.rejects == ()
    assert (catalog.num_items, catalog.interactions.num_rows) == (1_425, 56_345)
    assert profiles["80"].title == "Groove Armada"
    tags, _, paragraph = (profiles["80"].description or "").partition("\n")
    assert tags.startswith("00s,10s,1st vine,2009,2010,ambient")
    assert paragraph.startswith("Groove Armada is a British electronic music duo")
    assert set(profiles["80"].attributes) == {"source_index"}
    assert list(store.profile_ids()) == sorted(item.item_id for item in catalog.items())


def test_emotifys_songs_become_the_vectors_that_yamnet_made_of_them_elsewhere(
    tmp_path: Path, shared_data: Path
) -> None:
    catalog = read(shared_data / "emotify", columns=EMOTIFY)
    songs = catalog.good_items.sort_by("item_id")
    some = songs.take(list(range(0, songs.num_rows, 8)))  # of each of the four genres
    catalog = replace(catalog, good_items=some)
    config = EncoderConfig(
        modality=Modality.AUDIO,
        encoder="tflite",
        model=str(shared_data / "encoders/yamnet.tflite"),
        output="yamnet_frames/global_average_pooling2d/Mean",
        hop=7_680,
        dim=1024,
        num_threads=1,
    )
    store = Store(tmp_path / "store")
    embedder = create(config, catalog=catalog)

    batches = written(store, embedder, catalog)
    found = store.read(embedder.space)

    ids, vectors_ND = of_file(shared_data / "emotify/vectors/audio_yamnet.parquet")
    assert [reject for batch in batches for reject in batch.rejects] == []
    assert list(found.item_ids) == some["item_id"].to_pylist()
    cosines_N = (found.vectors_ND * units(vectors_ND)[np.isin(ids, found.item_ids)]).sum(axis=1)
    # Vorbis overshoots full scale in loud songs; we scale such a sound back, they did not.
    assert cosines_N.min() >= 0.997
    assert (cosines_N >= 0.999).mean() >= 0.99
    assert sum(len(batch.embeddings) for batch in written(store, embedder, catalog)) == 0
