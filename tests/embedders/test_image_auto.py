"""Any vision model's vectors keep the contract; an untrained pooling layer is never used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedders.image_auto import AutoImageEmbedder
from embedders.items import Item
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

# isort: split
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

SIDE = 32
LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
VISION = {**LAYERS, "image_size": SIDE, "patch_size": 8}
SIZE = {"height": SIDE, "width": SIDE}


def save(folder: Path, model: object) -> Path:
    ViTImageProcessorPil(size=SIZE).save_pretrained(folder)
    return tiny.save(model, folder)  # type: ignore[arg-type]


def vit(folder: Path) -> Path:
    return save(folder, tiny.seeded(lambda: ViTModel(ViTConfig(**VISION))))


def classifier(folder: Path) -> Path:
    return save(folder, tiny.seeded(lambda: ViTForImageClassification(ViTConfig(**VISION))))


def dinov2(folder: Path) -> Path:
    return save(folder, tiny.seeded(lambda: Dinov2Model(Dinov2Config(**VISION))))


def resnet(folder: Path) -> Path:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    return save(folder, tiny.seeded(lambda: ResNetModel(config)))


def clip(folder: Path) -> Path:
    config = CLIPConfig(
        text_config={**LAYERS, "vocab_size": 30}, vision_config=VISION, projection_dim=20
    )
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIZE).save_pretrained(folder)
    return tiny.save(tiny.seeded(lambda: CLIPModel(config)), folder)


def siglip(folder: Path) -> Path:
    config = SiglipConfig(text_config={**LAYERS, "vocab_size": 30}, vision_config=VISION)
    return save(folder, tiny.seeded(lambda: SiglipModel(config)))


MODELS = {
    "vit": (vit, 16),
    "classifier": (classifier, 16),
    "dinov2": (dinov2, 16),
    "resnet": (resnet, 12),
    "clip": (clip, 20),
    "siglip": (siglip, 16),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vision")
    return {name: build(root / f"tiny-{name}") for name, (build, _) in MODELS.items()}


@pytest.mark.parametrize("name", sorted(MODELS))
class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, folders: dict[str, Path], name: str) -> Make:
        return lambda batch_size: AutoImageEmbedder(model=folders[name], batch_size=batch_size)

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        good = tiny.image_items(tmp_path)
        assert good[0].image_path is not None
        copy, cut = tmp_path / "copy.png", tmp_path / "cut.png"
        copy.write_bytes(good[0].image_path.read_bytes())
        cut.write_bytes(good[0].image_path.read_bytes()[:80])
        return World(
            good=good,
            twin=Item(item_id="twin", title="", image_path=copy),
            bare=Item(item_id="bare", title="no picture"),
            damaged=[
                Item(item_id=path.name, title="", image_path=path)
                for path in (cut, tmp_path / "gone.png")
            ],
        )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_declared_dimension_is_the_models(folders: dict[str, Path], name: str) -> None:
    space = AutoImageEmbedder(model=folders[name]).space
    assert space.dim == MODELS[name][1]
    assert space.encoder == f"tiny-{name}"
    assert "Pil" in space.preprocessing


def test_clip_answers_by_its_image_features(folders: dict[str, Path], tmp_path: Path) -> None:
    (item,) = tiny.image_items(tmp_path)[:1]
    assert item.image_path is not None
    processor = CLIPImageProcessorPil.from_pretrained(folders["clip"])
    inputs = processor(images=Image.open(item.image_path), return_tensors="pt")
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folders["clip"]).eval()
        features = model.visual_projection(model.vision_model(**inputs).pooler_output)
    expected = torch.nn.functional.normalize(features).numpy()
    found = vectors(AutoImageEmbedder(model=folders["clip"]), [item])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_classifier_answers_by_its_first_token(folders: dict[str, Path], tmp_path: Path) -> None:
    (item,) = tiny.image_items(tmp_path)[:1]
    assert item.image_path is not None
    processor = ViTImageProcessorPil.from_pretrained(folders["classifier"])
    inputs = processor(images=Image.open(item.image_path), return_tensors="pt")
    with torch.inference_mode():
        model = ViTForImageClassification.from_pretrained(folders["classifier"]).eval()
        first = model.vit(**inputs).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(first).numpy()
    found = vectors(AutoImageEmbedder(model=folders["classifier"]), [item])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_loading_is_quiet(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    AutoImageEmbedder(model=folders["classifier"])
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_without_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="pin a revision"):
        AutoImageEmbedder(model="org/model", revision="main")
