"""An encoder with an adapter is an ordinary encoder, and one that does not fit is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedders.adapter import CONFIG, TUNING, WEIGHTS
from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.registry import EncoderConfig, create
from embedders.text_auto import AutoTextEmbedder
from embedders.text_sentence import SentenceEmbedder
from tests.embedders import test_audio_auto as audio
from tests.embedders import test_image_auto as image
from tests.embedders import test_text_auto as text
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors
from tests.embedders.tuning.adapters import saved

# isort: split
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

Adapters = dict[str, EncoderConfig]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    """Encoders of every modality with trained adapters of several methods."""
    root = tmp_path_factory.mktemp("adapted")
    items = {
        Modality.TEXT: tiny.text_items(),
        Modality.IMAGE: tiny.image_items(root),
        Modality.AUDIO: tiny.audio_items(root),
    }
    auto = {"encoder": "auto"}
    bert = {"model": str(text.bert(root / "bert")), **auto}
    qwen2 = {"model": str(text.qwen2(root / "qwen2")), "pooling": "last", **auto}
    plain = {
        "bert": ("lora", EncoderConfig(modality=Modality.TEXT, **bert)),
        "prefix": ("prefix", EncoderConfig(modality=Modality.TEXT, **bert)),
        "prompt": ("prompt", EncoderConfig(modality=Modality.TEXT, **qwen2)),  # type: ignore[arg-type]
        "clip": (
            "bitfit",
            EncoderConfig(modality=Modality.IMAGE, model=str(image.clip(root / "clip")), **auto),
        ),
        "masked": (
            "ia3",
            EncoderConfig(modality=Modality.AUDIO, model=str(audio.masked(root / "ears")), **auto),
        ),
    }
    return {
        name: replace(
            config,
            adapter=saved(config, method, items[config.modality], root / f"of-{name}"),  # type: ignore[arg-type]
        )
        for name, (method, config) in plain.items()
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, World]:
    """Items of every modality whose treatment is known."""
    root = tmp_path_factory.mktemp("items")
    titles, pictures, sounds = tiny.text_items(), tiny.image_items(root), tiny.audio_items(root)
    assert pictures[0].image_path is not None
    assert sounds[0].audio_path is not None
    shutil.copy(pictures[0].image_path, root / "twin.png")
    shutil.copy(sounds[0].audio_path, root / "twin.wav")
    soundfile.write(root / "short.wav", tiny.sound(1, seconds=0.05), 16_000)
    bare = Item(item_id="bare", title="")
    return {
        Modality.TEXT: World(
            good=titles,
            twin=Item(item_id="twin", title=titles[0].title),
            bare=bare,
            damaged=[Item(item_id="half", title="wine \udc00")],
        ),
        Modality.IMAGE: World(
            good=pictures,
            twin=Item(item_id="twin", title="", image_path=root / "twin.png"),
            bare=bare,
            damaged=[Item(item_id="gone.png", title="", image_path=root / "gone.png")],
        ),
        Modality.AUDIO: World(
            good=sounds,
            twin=Item(item_id="twin", title="", audio_path=root / "twin.wav"),
            bare=bare,
            damaged=[Item(item_id="short.wav", title="", audio_path=root / "short.wav")],
        ),
    }


def opened(config: EncoderConfig) -> Embedder:
    return create(config, catalog=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bert", "clip", "masked", "prefix", "prompt"])
class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, adapters: Adapters, name: str) -> Make:
        return lambda batch_size: opened(replace(adapters[name], batch_size=batch_size))

    @pytest.fixture
    def world(self, adapters: Adapters, files: dict[Modality, World], name: str) -> World:
        return files[adapters[name].modality]


def test_summaries_are_embedded_with_an_adapter_too(adapters: Adapters) -> None:
    config = replace(adapters["bert"], modality=Modality.SUMMARY)
    titles = tiny.text_items()
    written = [replace(one, title="", summary=one.title) for one in titles]
    embedder = opened(config)
    assert embedder.space.modality is Modality.SUMMARY
    np.testing.assert_allclose(
        vectors(embedder, written), vectors(opened(adapters["bert"]), titles), atol=1e-6
    )


@pytest.mark.parametrize("name", ["bert", "prefix", "clip"])
def test_half_precision_gives_nearly_the_same_vectors_in_another_space(
    adapters: Adapters, files: dict[Modality, World], name: str
) -> None:
    full, short = opened(adapters[name]), opened(replace(adapters[name], dtype="bfloat16"))
    items = files[adapters[name].modality].good
    cosines = (vectors(full, items) * vectors(short, items)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-9
    assert short.space.space_id != full.space.space_id


def test_an_adapter_that_peft_saved_elsewhere_gives_what_peft_computes(
    adapters: Adapters, tmp_path: Path
) -> None:
    """With rules for single layers, scaled by the root of the rank, and no word about its base."""
    folder = str(adapters["bert"].model)
    settings = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value", "dense"],
        exclude_modules=["pooler.dense"],
        rank_pattern={"query": 2},
        use_rslora=True,
        init_lora_weights=False,
        task_type="FEATURE_EXTRACTION",
    )
    wrapped = get_peft_model(AutoModel.from_pretrained(folder), settings)
    wrapped.save_pretrained(str(tmp_path), save_embedding_layers=False)
    expected = AutoTextEmbedder(model=folder)
    expected.network = PeftModel.from_pretrained(
        AutoModel.from_pretrained(folder), str(tmp_path)
    ).eval()
    found = AutoTextEmbedder(model=folder, adapter=tmp_path)
    items = tiny.text_items()
    np.testing.assert_allclose(vectors(found, items), vectors(expected, items), atol=1e-5)
    assert (
        np.abs(vectors(found, items) - vectors(AutoTextEmbedder(model=folder), items)).max() > 0.01
    )


Damage = Callable[[Path], Any]


def shortened(folder: Path) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])


def changed(**settings: Any) -> Damage:
    def change(folder: Path) -> None:
        facts = json.loads((folder / CONFIG).read_text()) | settings
        (folder / CONFIG).write_text(json.dumps(facts))

    return change


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def write(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return write


def not_finite(weights: dict[str, Any]) -> None:
    weights[min(weights)][:] = np.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shortened, "adapter_model.safetensors is damaged"),
        (rewritten(lambda weights: weights.popitem()), "1 weights are only in the file or only"),
        (rewritten(not_finite), "holds values that are not finite"),
        (changed(r=3), "has the shape .* in the file and .* in the network"),
        (changed(target_modules=["elsewhere"]), "does not fit BertModel"),
        (changed(modules_to_save=["pooler"]), "modules_to_save = .* is not supported"),
        (changed(use_dora=True), "use_dora = True is not supported"),
        (changed(bias="all"), "bias = 'all' is not supported"),
        (changed(init_lora_weights="pissa"), "init_lora_weights = 'pissa' also changes"),
        (changed(r="many"), "does not fit BertModel"),
    ],
)
def test_what_does_not_fit_or_is_not_known_is_refused(
    adapters: Adapters, tmp_path: Path, damage: Damage, message: str
) -> None:
    folder = tmp_path / "adapter"
    assert adapters["bert"].adapter is not None
    shutil.copytree(adapters["bert"].adapter, folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        opened(replace(adapters["bert"], adapter=folder))


def test_an_adapter_of_another_model_is_refused_with_and_without_a_word_about_its_base(
    adapters: Adapters, tmp_path: Path
) -> None:
    other = replace(adapters["bert"], adapter=adapters["prompt"].adapter)
    with pytest.raises(ValueError, match="was made for qwen2 of revision"):
        opened(other)
    assert other.adapter is not None
    shutil.copytree(other.adapter, tmp_path / "silent")
    (tmp_path / "silent" / TUNING).unlink()
    with pytest.raises(ValueError, match="does not fit BertModel"):
        opened(replace(other, adapter=tmp_path / "silent"))


def test_a_sentence_model_without_a_transformer_is_refused(
    adapters: Adapters, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tiny.save_words(tmp_path / "words")
    tokenizer = Tokenizer.from_file(str(tmp_path / "words/tokenizer.json"))
    static = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu"
    )
    static.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    adapter = adapters["bert"].adapter
    with pytest.raises(ValueError, match="begins with a StaticEmbedding, an adapter goes into"):
        SentenceEmbedder(model=tmp_path / "static", adapter=adapter)
