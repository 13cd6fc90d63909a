"""Any vision model's vectors keep the contract; an untrained pooling layer is never used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedders.checkpoint import Dtype
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
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
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


def siglip2(folder: Path) -> Path:
    """Keeps a picture's proportions: its inputs are patches, a mask and a shape."""
    text, vision = {**LAYERS, "vocab_size": 30}, {**LAYERS, "patch_size": 8, "num_patches": 16}
    config = Siglip2Config(text_config=text, vision_config=vision)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return tiny.save(tiny.seeded(lambda: Siglip2Model(config)), folder)


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
    "siglip2": (siglip2, 16),
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


def plainly(name: str, folder: Path, path: Path) -> np.ndarray:
    """One picture's unit vector by the family's own class and processor alone."""
    processors = {"clip": CLIPImageProcessorPil, "siglip2": Siglip2ImageProcessorPil}
    processor = processors.get(name, ViTImageProcessorPil).from_pretrained(folder)
    with Image.open(path) as picture:
        inputs = processor(images=picture.convert("RGB"), return_tensors="pt")

    def vector() -> torch.Tensor:
        match name:
            case "clip":
                model = CLIPModel.from_pretrained(folder).eval()
                pooled = model.vision_model(**inputs).pooler_output
                return model.visual_projection(pooled)  # type: ignore[no-any-return]
            case "siglip":
                model = SiglipModel.from_pretrained(folder).eval()
                return model.vision_model(**inputs).pooler_output  # type: ignore[no-any-return]
            case "siglip2":
                model = Siglip2Model.from_pretrained(folder).eval()
                return model.get_image_features(**inputs).pooler_output  # type: ignore[no-any-return]
            case "classifier":  # has no trained pooling layer
                model = ViTForImageClassification.from_pretrained(folder).eval()
                return model.vit(**inputs).last_hidden_state[:, 0]  # type: ignore[no-any-return]
            case _:
                model = AutoModel.from_pretrained(folder).eval()
                return model(**inputs).pooler_output.flatten(1)  # type: ignore[no-any-return]

    with torch.inference_mode():
        return torch.nn.functional.normalize(vector()).numpy()[0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_gives_what_transformers_gives(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    items = tiny.image_items(tmp_path)
    found = vectors(AutoImageEmbedder(model=folders[name]), items)
    expected = [plainly(name, folders[name], item.image_path) for item in items if item.image_path]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["clip", "dinov2", "siglip2", "vit"])
def test_shorter_floats_give_nearly_the_same_vectors_in_another_space(
    folders: dict[str, Path], tmp_path: Path, name: str, dtype: Dtype
) -> None:
    full = AutoImageEmbedder(model=folders[name])
    short = AutoImageEmbedder(model=folders[name], dtype=dtype)
    items = tiny.image_items(tmp_path)
    cosines = (vectors(full, items) * vectors(short, items)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-9
    assert short.space.preprocessing == f"{full.space.preprocessing}; in {dtype}"
    assert vectors(short, items).dtype == np.float32


def test_a_declared_length_is_checked_when_the_model_is_loaded(folders: dict[str, Path]) -> None:
    assert AutoImageEmbedder(model=folders["clip"], dim=20).space.dim == 20
    with pytest.raises(ValueError, match="vectors of 20 dimensions, declared are 512; correct"):
        AutoImageEmbedder(model=folders["clip"], dim=512)


@pytest.mark.gpu
def test_a_gpu_is_found_and_gives_the_same_vectors(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    gpu = AutoImageEmbedder(model=folders["vit"])
    cpu = AutoImageEmbedder(model=folders["vit"], device="cpu")
    assert gpu.space == cpu.space
    assert next(gpu._encoder.model.parameters()).is_cuda
    items = tiny.image_items(tmp_path)
    np.testing.assert_allclose(vectors(gpu, items), vectors(cpu, items), atol=1e-3)


def test_loading_is_quiet(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    AutoImageEmbedder(model=folders["classifier"])
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_without_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="pin a revision"):
        AutoImageEmbedder(model="org/model", revision="main")
