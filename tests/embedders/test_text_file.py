"""Texts through a model file: tokens, padding and poolings of known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from embedders.items import Item
from embedders.onnx_file import OnnxFile
from embedders.text_auto import AutoTextEmbedder
from embedders.text_file import FileTextEmbedder, pool
from tests.embedders.contract import EmbedderContract, Make, World
from tests.embedders.tiny import TITLES, save, save_bytes, save_words, seeded, text_items
from tests.embedders.tiny_files import TEXT_DIM, save_text, token_table

# isort: split
from transformers import BertConfig, BertModel

CLS, SEP = 2, 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_text(tmp_path / "words")


def tokens_of(embedder: FileTextEmbedder, title: str) -> list[int]:
    return embedder.load(Item(item_id="t", title=title))


def unit(vector: Any) -> NDArray[np.float64]:
    return np.asarray(vector) / np.linalg.norm(vector)


class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, path: Path) -> Make:
        return lambda batch_size: FileTextEmbedder(OnnxFile(path), batch_size=batch_size)

    @pytest.fixture
    def world(self) -> World:
        return World(
            good=text_items(),
            twin=Item(item_id="twin", title=TITLES[0]),
            bare=Item(item_id="bare", title=""),
            damaged=[Item(item_id="torn", title="half of a pair: \ud800")],
        )


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_vector_is_that_of_the_texts_own_tokens(path: Path, pooling: Any) -> None:
    embedder = FileTextEmbedder(OnnxFile(path), pooling=pooling)

    vectors_ND = embedder.encode([embedder.load(item) for item in text_items()])

    for title, found in zip(TITLES, vectors_ND, strict=True):
        tokens = tokens_of(embedder, title)
        assert (tokens[0], tokens[-1]) == (CLS, SEP)
        rows = token_table()[tokens] + 1  # the mask, added by the model
        expected = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling]
        np.testing.assert_allclose(found, unit(expected), atol=1e-5)


def test_padding_never_counts_whatever_the_model_writes_there() -> None:
    hidden_NTD = np.full((2, 3, 2), np.nan, dtype=np.float32)
    hidden_NTD[0], hidden_NTD[1, 0] = [[1, 2], [3, 4], [8, 9]], [5, 6]
    mask_NT = np.array([[1, 1, 1], [1, 0, 0]])

    assert pool(hidden_NTD, mask_NT, "mean").tolist() == [[4, 5], [5, 6]]
    assert pool(hidden_NTD, mask_NT, "cls").tolist() == [[1, 2], [5, 6]]
    assert pool(hidden_NTD, mask_NT, "last").tolist() == [[8, 9], [5, 6]]


def test_all_inputs_that_a_text_determines_are_filled(tmp_path: Path) -> None:
    names = ("input_ids", "token_type_ids", "position_ids", "attention_mask")
    model = OnnxFile(save_text(tmp_path / "full", inputs=names, kind=TensorProto.INT32))
    embedder = FileTextEmbedder(model)
    title = TITLES[1]

    found = embedder.embed([Item(item_id="t", title=title)])[0].vectors_ND[0]

    tokens = tokens_of(embedder, title)
    rows = token_table()[tokens] + np.arange(len(tokens))[:, None] + 1
    np.testing.assert_allclose(found, unit(rows.mean(axis=0)), atol=1e-5)


def test_a_file_that_pools_is_left_to_do_so(tmp_path: Path) -> None:
    path = save_text(tmp_path / "two", outputs=("tokens", "pooled"))
    embedder = FileTextEmbedder(OnnxFile(path, output="pooled"))

    found = embedder.embed([Item(item_id="t", title="bread")])[0].vectors_ND[0]

    rows = token_table()[tokens_of(embedder, "bread")] + 1
    np.testing.assert_allclose(found, unit(rows.max(axis=0)), atol=1e-5)
    with pytest.raises(ValueError, match="leave `pooling` out"):
        FileTextEmbedder(OnnxFile(path, output="pooled"), pooling="mean")
    with pytest.raises(ValueError, match="has 2 outputs"):
        OnnxFile(path)


@pytest.mark.parametrize(
    "options",
    [{"inputs": ("input_ids",)}, {"axes": (1, "t")}, {"quantized": True}],
    ids=["no mask", "one at a time", "rounded by the batch"],
)
def test_where_texts_would_disturb_each_other_they_run_one_by_one(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    embedder = FileTextEmbedder(OnnxFile(save_text(tmp_path / "alone", **options)))
    items = text_items()

    together = embedder.embed(items)[0].vectors_ND
    alone = np.concatenate([embedder.embed([item])[0].vectors_ND for item in items])

    np.testing.assert_array_equal(together, alone)


def test_a_text_is_cut_and_its_prefix_counts(path: Path) -> None:
    embedder = FileTextEmbedder(OnnxFile(path), max_length=5, prefix="the old ")

    assert len(tokens_of(embedder, TITLES[1])) == 5
    plain = FileTextEmbedder(OnnxFile(path))
    assert tokens_of(embedder, "tower") == tokens_of(plain, "the old tower")


def test_queries_have_a_prefix_of_their_own_in_the_same_space(path: Path) -> None:
    embedder = FileTextEmbedder(OnnxFile(path), prefix="the ", query_prefix="a ")
    plain = FileTextEmbedder(OnnxFile(path))

    found = embedder.encode_queries(["song", "tower"])

    np.testing.assert_allclose(found, plain.encode_queries(["a song", "a tower"]), atol=1e-6)
    assert embedder.space == FileTextEmbedder(OnnxFile(path), prefix="the ").space
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_text_that_leaves_no_token_is_told(tmp_path: Path) -> None:
    path = save_text(tmp_path / "bytes")
    save_bytes(tmp_path / "bytes")
    embedder = FileTextEmbedder(OnnxFile(path))

    _, rejects = embedder.embed([Item(item_id="han", title="红酒")])

    assert "leaves no token of its text" in rejects[0].reason
    with pytest.raises(ValueError, match="no token of the query '红酒'"):
        embedder.encode_queries(["红酒"])


def test_the_space_names_folder_file_tokenizer_and_all_that_was_done(path: Path) -> None:
    model = OnnxFile(path)
    options: list[dict[str, Any]] = [
        {},
        {"pooling": "cls"},
        {"prefix": "the "},
        {"max_length": 9},
    ]
    spaces = [FileTextEmbedder(model, dim=TEXT_DIM, **each).space for each in options]

    assert (spaces[0].encoder, spaces[0].dim) == ("words", TEXT_DIM)
    assert len({space.space_id for space in spaces}) == len(spaces)
    assert spaces[0] == FileTextEmbedder(model, pooling="mean").space
    words = path.parent / "tokenizer.json"
    words.write_text(words.read_text().replace('"wine"', '"vine"'))
    assert FileTextEmbedder(model).space.revision != spaces[0].revision


def test_a_model_that_is_no_text_encoder_is_refused(tmp_path: Path) -> None:
    cached = save_text(tmp_path / "cached", inputs=("input_ids", "past_key_values"))
    with pytest.raises(
        ValueError, match=r"takes input_ids, past_key_values; a text fills .* witho"
    ):
        FileTextEmbedder(OnnxFile(cached))
    fixed = save_text(tmp_path / "fixed", axes=("n", 16))
    with pytest.raises(ValueError, match=r"\[any, 16\], expected \[any, any\]"):
        FileTextEmbedder(OnnxFile(fixed))


def test_a_missing_or_broken_tokenizer_is_named(path: Path) -> None:
    words = path.parent / "tokenizer.json"
    words.write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer: save it again"):
        FileTextEmbedder(OnnxFile(path))
    words.unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        FileTextEmbedder(OnnxFile(path))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pooling": "max"}, "pooling is one of"),
        ({"max_length": 0}, "are at least 1, got 0 and 32"),
        ({"batch_size": 0}, "are at least 1, got 256 and 0"),
        ({"dim": 7}, "gives vectors of 6 dimensions, declared are 7"),
    ],
)
def test_impossible_options_are_refused(path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FileTextEmbedder(OnnxFile(path), **options)


class LastHidden(torch.nn.Module):
    """A model's last layer alone, as exporters want it."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return output.last_hidden_state


def export(checkpoint: Path, path: Path) -> Path:
    """A checkpoint's model as a file, free in both axes."""
    model = BertModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask"]
    ones = torch.ones(2, 5, dtype=torch.long)
    torch.onnx.export(
        LastHidden(model),
        (ones, ones),
        str(path),
        input_names=names,
        output_names=["tokens"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in [*names, "tokens"]},
        dynamo=False,
    )
    return path


@pytest.mark.filterwarnings("ignore")  # torch's exporter has many, and is not what is tested
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_an_exported_encoder_makes_the_vectors_that_torch_makes(
    tmp_path: Path, pooling: Any
) -> None:
    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=save_words(folder),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    save(seeded(lambda: BertModel(config)), folder)
    model = OnnxFile(export(folder, folder / "model.onnx"))

    by_file = FileTextEmbedder(model, pooling=pooling, max_length=40, batch_size=4)
    by_torch = AutoTextEmbedder(model=folder, pooling=pooling, device="cpu")

    np.testing.assert_allclose(
        by_file.embed(text_items())[0].vectors_ND,
        by_torch.embed(text_items())[0].vectors_ND,
        atol=1e-5,
    )
