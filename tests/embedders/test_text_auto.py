"""Any encoder's or decoder's text vectors keep the contract, whatever the padding."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.items import Item
from embedders.text_auto import AutoTextEmbedder, Pooling, pool
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

# isort: split
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5Model,
)


def bert(folder: Path) -> Path:
    config = BertConfig(
        vocab_size=tiny.save_words(folder),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    return tiny.save(tiny.seeded(lambda: BertModel(config)), folder)


def qwen2(folder: Path) -> Path:
    config = Qwen2Config(
        vocab_size=tiny.save_bytes(folder),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    return tiny.save(tiny.seeded(lambda: Qwen2Model(config)), folder)


def gpt2(folder: Path) -> Path:
    """Absolute positions, and a tokenizer that would pad on the left."""
    config = GPT2Config(
        vocab_size=tiny.save_bytes(folder),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=48,
    )
    return tiny.save(tiny.seeded(lambda: GPT2Model(config)), folder)


def t5(folder: Path) -> Path:
    config = T5Config(
        vocab_size=tiny.save_words(folder),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
    )
    return tiny.save(tiny.seeded(lambda: T5Model(config)), folder)


MODELS = {"bert": bert, "qwen2": qwen2, "gpt2": gpt2, "t5": t5}
CASES: list[tuple[str, Pooling]] = [
    ("bert", "mean"),
    ("bert", "cls"),
    ("qwen2", "last"),
    ("qwen2", "mean"),
    ("gpt2", "last"),
    ("t5", "mean"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("text")
    return {name: build(root / f"tiny-{name}") for name, build in MODELS.items()}


@pytest.mark.parametrize(("name", "pooling"), CASES)
class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, folders: dict[str, Path], name: str, pooling: Pooling) -> Make:
        return lambda batch_size: AutoTextEmbedder(
            model=folders[name], pooling=pooling, batch_size=batch_size
        )

    @pytest.fixture
    def world(self) -> World:
        good = tiny.text_items()
        return World(
            good=good,
            twin=Item(item_id="twin", title=f" {good[0].title} "),
            bare=Item(item_id="bare", title=""),
            damaged=[Item(item_id="half", title="wine \udc00")],
        )


def test_bert_gives_what_transformers_gives_one_by_one(folders: dict[str, Path]) -> None:
    model = AutoModel.from_pretrained(folders["bert"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["bert"])
    items = tiny.text_items()
    expected = []
    for item in items:
        with torch.inference_mode():
            hidden = model(**tokenizer(item.title, return_tensors="pt")).last_hidden_state
        expected.append(torch.nn.functional.normalize(hidden.mean(dim=1)).numpy()[0])
    got = vectors(AutoTextEmbedder(model=folders["bert"]), items)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "left", "right"),
    [("mean", [1.5, 6.0], [0.5, 6.0]), ("cls", [1.0, 5.0], [0.0, 5.0]), ("last", [2, 7], [1, 7])],
)
def test_pooling_sees_only_the_texts_tokens_on_either_side_of_the_padding(
    pooling: Pooling, left: list[float], right: list[float]
) -> None:
    hidden_NTD = torch.tensor([[[0.0], [1.0], [2.0]], [[5.0], [6.0], [7.0]]])
    left_mask, right_mask = torch.tensor([[0, 1, 1], [1, 1, 1]]), torch.tensor([[1, 1, 0], [1] * 3])
    assert pool(hidden_NTD, left_mask, pooling).flatten().tolist() == left
    assert pool(hidden_NTD, right_mask, pooling).flatten().tolist() == right


def test_long_texts_are_cut_at_the_stated_length(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["bert"], max_length=5)
    long, cut, other = (
        Item(item_id=str(n), title=title)
        for n, title in enumerate(["the red wine and bread", "the red wine", "the red song"])
    )
    assert "at most 5 tokens" in embedder.space.preprocessing
    long_vector, cut_vector, other_vector = vectors(embedder, [long, cut, other])
    np.testing.assert_allclose(long_vector, cut_vector, atol=1e-6)
    assert not np.allclose(long_vector, other_vector, atol=1e-3)


def test_the_models_own_length_limit_holds_where_it_is_lower(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["bert"], max_length=512)
    assert "at most 40 tokens" in embedder.space.preprocessing
    vectors(embedder, [Item(item_id="1", title="wine " * 600)])


def test_a_text_that_leaves_no_token_is_rejected(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["qwen2"], pooling="last")
    greek, good = Item(item_id="greek", title="\u03a9"), Item(item_id="good", title="wine")
    embeddings, rejects = embedder.embed([greek, good])
    assert list(embeddings.item_ids) == ["good"]
    assert [reject.key for reject in rejects] == ["greek"]
    assert "no token" in rejects[0].reason


def test_each_fact_makes_another_space(folders: dict[str, Path]) -> None:
    spaces = [
        AutoTextEmbedder(model=folders["bert"]).space,
        AutoTextEmbedder(model=folders["bert"], pooling="cls").space,
        AutoTextEmbedder(model=folders["bert"], prefix="a ").space,
        AutoTextEmbedder(model=folders["bert"], max_length=9).space,
        AutoTextEmbedder(model=folders["qwen2"]).space,
    ]
    assert len({space.space_id for space in spaces}) == len(spaces)


def test_an_unknown_pooling_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"pooling is one of .*got 'max'"):
        AutoTextEmbedder(model=folders["bert"], pooling="max")  # type: ignore[arg-type]
