"""Any encoder's or decoder's text vectors keep the contract, whatever the padding."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from embedders.checkpoint import Dtype
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
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
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


def qwen3(folder: Path) -> Path:
    """As Qwen3-Embedding: its tokenizer ends each text with a token whose vector counts."""
    config = Qwen3Config(
        vocab_size=tiny.save_bytes(folder, is_ended=True),
        hidden_size=24,
        head_dim=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    return tiny.save(tiny.seeded(lambda: Qwen3Model(config)), folder)


def roberta(folder: Path) -> Path:
    """Of its 24 positions the first two are spent on padding; its tokenizer knows of no limit."""
    config = RobertaConfig(
        vocab_size=tiny.save_bytes(folder),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        pad_token_id=1,
    )
    return tiny.save(tiny.seeded(lambda: RobertaModel(config)), folder)


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


MODELS = {
    "bert": bert,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "roberta": roberta,
    "gpt2": gpt2,
    "t5": t5,
}
CASES: list[tuple[str, Pooling]] = [
    ("bert", "mean"),
    ("bert", "cls"),
    ("qwen2", "last"),
    ("qwen2", "mean"),
    ("qwen3", "last"),
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


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_every_model_gives_what_transformers_gives_one_by_one(
    folders: dict[str, Path], name: str, pooling: Pooling
) -> None:
    model = AutoModel.from_pretrained(folders[name]).eval()
    model = model.get_encoder() if name == "t5" else model
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    items = tiny.text_items()
    expected = []
    for item in items:
        with torch.inference_mode():
            (hidden_TD,) = model(**tokenizer(item.title, return_tensors="pt")).last_hidden_state
        pooled = {"mean": hidden_TD.mean(dim=0), "cls": hidden_TD[0], "last": hidden_TD[-1]}
        expected.append(torch.nn.functional.normalize(pooled[pooling], dim=0).numpy())
    found = vectors(AutoTextEmbedder(model=folders[name], pooling=pooling), items)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_qwen3_embedding_gives_what_its_models_card_computes(folders: dict[str, Path]) -> None:
    """The card pads on the left and takes the last position; a query is told its task."""
    titles = list(tiny.TITLES)
    instruction = "Instruct: the wine of the song\nQuery: "
    tokenizer = AutoTokenizer.from_pretrained(folders["qwen3"], padding_side="left")
    model = AutoModel.from_pretrained(folders["qwen3"]).eval()

    def card(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            last = model(**batch).last_hidden_state[:, -1]
        return torch.nn.functional.normalize(last, p=2, dim=1).numpy()

    embedder = AutoTextEmbedder(
        model=folders["qwen3"], pooling="last", query_prefix=instruction, max_length=64
    )
    assert embedder.load(tiny.text_items()[0])[-1] == tokenizer.pad_token_id
    np.testing.assert_allclose(vectors(embedder, tiny.text_items()), card(titles), atol=1e-5)
    np.testing.assert_allclose(
        embedder.encode_queries(titles), card([instruction + title for title in titles]), atol=1e-5
    )


def test_a_text_that_is_cut_keeps_the_token_that_ends_it(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["qwen3"], pooling="last", max_length=4)
    tokens = embedder.load(Item(item_id="1", title="the red wine and bread"))
    assert (len(tokens), tokens[-1]) == (4, 0)


def test_a_query_takes_the_items_prefix_where_it_has_none_of_its_own(
    folders: dict[str, Path],
) -> None:
    plain = AutoTextEmbedder(model=folders["bert"], prefix="the tower ")
    other = AutoTextEmbedder(model=folders["bert"], prefix="the tower ", query_prefix="")
    items = tiny.text_items()
    texts = [item.title for item in items]
    np.testing.assert_allclose(plain.encode_queries(texts), vectors(plain, items), atol=1e-6)
    bare = vectors(AutoTextEmbedder(model=folders["bert"]), items)
    np.testing.assert_allclose(other.encode_queries(texts), bare, atol=1e-6)
    assert plain.space == other.space
    assert plain.encode_queries([]).shape == (0, 16)


def test_a_query_that_leaves_no_token_is_refused(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["qwen2"], pooling="last")
    with pytest.raises(ValueError, match="no token of the query '\u03a9'"):
        embedder.encode_queries(["wine", "\u03a9"])


def test_a_tokenizer_that_was_saved_with_padding_serves_many_threads(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Its settings are changed by the first call, and by no call that another one may meet."""
    folder = bert(tmp_path / "padded")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(max_length=30)
    tokenizer.save(str(folder / "tokenizer.json"))
    items = [Item(item_id=str(n), title="wine and bread " * (n % 9 + 1)) for n in range(400)]
    embedder = AutoTextEmbedder(model=folder)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(embedder.load, items))
    plain = AutoTextEmbedder(model=folders["bert"])
    assert found == [plain.load(item) for item in items]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "pooling"), [("bert", "mean"), ("qwen3", "last")])
def test_shorter_floats_give_nearly_the_same_vectors_in_another_space(
    folders: dict[str, Path], name: str, pooling: Pooling, dtype: Dtype
) -> None:
    full = AutoTextEmbedder(model=folders[name], pooling=pooling)
    short = AutoTextEmbedder(model=folders[name], pooling=pooling, dtype=dtype)
    items = tiny.text_items()
    cosines = (vectors(full, items) * vectors(short, items)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-9
    assert short.space.preprocessing == f"{full.space.preprocessing}; in {dtype}"
    assert vectors(short, items).dtype == np.float32


def test_a_declared_length_is_checked_when_the_model_is_loaded(folders: dict[str, Path]) -> None:
    assert AutoTextEmbedder(model=folders["bert"], dim=16).space.dim == 16
    with pytest.raises(ValueError, match="vectors of 16 dimensions, declared are 384; correct"):
        AutoTextEmbedder(model=folders["bert"], dim=384)


@pytest.mark.gpu
def test_a_gpu_is_found_and_gives_the_same_vectors(folders: dict[str, Path]) -> None:
    gpu = AutoTextEmbedder(model=folders["bert"])
    cpu = AutoTextEmbedder(model=folders["bert"], device="cpu")
    assert gpu.space == cpu.space
    assert next(gpu._encoder.model.parameters()).is_cuda
    items = tiny.text_items()
    np.testing.assert_allclose(vectors(gpu, items), vectors(cpu, items), atol=1e-4)


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


def test_positions_that_roberta_spends_on_padding_are_not_counted(folders: dict[str, Path]) -> None:
    embedder = AutoTextEmbedder(model=folders["roberta"], max_length=512)
    assert "at most 22 tokens" in embedder.space.preprocessing
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
