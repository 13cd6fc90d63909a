"""Every family's processor loads without torchvision, pads on the left and runs no one's code."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from embedders.checkpoint import load_encoder
from embedders.items import Modality
from embedders.summaries.processor import WritingModel, load_processor, modalities
from tests.embedders import tiny
from tests.embedders.summaries import tiny_mllm

# isort: split
from transformers import AutoProcessor, T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel
from transformers.models.smolvlm import processing_smolvlm


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processors")


@pytest.fixture
def build(root: Path) -> Any:
    """A family's checkpoint, made once."""

    def made(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            tiny_mllm.quietly(getattr(tiny_mllm, name), folder)
        return folder

    return made


def processor_of(folder: Path, **options: Any) -> Any:
    return load_processor(load_encoder(folder, WritingModel, **options))


@pytest.mark.parametrize(
    ("name", "processor", "reads"),
    [
        ("idefics3", "Idefics3Processor", {Modality.IMAGE}),
        ("llava", "LlavaProcessor", {Modality.IMAGE}),
        ("llava_next", "LlavaNextProcessor", {Modality.IMAGE}),
        ("qwen2_vl", "Qwen2VLProcessor", {Modality.IMAGE}),
        ("qwen3_vl", "Qwen3VLProcessor", {Modality.IMAGE}),
        ("qwen2_audio", "Qwen2AudioProcessor", {Modality.AUDIO}),
        ("llama", "TokenizersBackend", set()),
        ("qwen2", "Qwen2Tokenizer", set()),
    ],
)
def test_each_family_gets_its_own_processor(
    build: Any, name: str, processor: str, reads: set[Modality]
) -> None:
    found = processor_of(build(name))
    assert type(found).__name__ == processor
    assert modalities(found) == reads
    words = getattr(found, "tokenizer", found)
    assert words.padding_side == "left"
    assert words.pad_token is not None
    if Modality.IMAGE in reads:
        assert type(found.image_processor).__name__.endswith("Pil")
        assert not hasattr(found, "video_processor")


@pytest.mark.parametrize("name", ["idefics3", "llava", "llava_next"])
def test_settings_are_those_that_transformers_itself_would_load(build: Any, name: str) -> None:
    theirs = AutoProcessor.from_pretrained(build(name))
    assert processor_of(build(name)).to_dict() == theirs.to_dict()


def test_smolvlm_says_which_package_it_needs(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(ImportError, match="pip install num2words"):
        processor_of(build("smolvlm"))


def test_smolvlm_needs_no_more_than_that_package(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It spells the number of a video's frames, and is never called here.
    monkeypatch.setattr(processing_smolvlm, "num2words", str)
    found = processor_of(build("smolvlm"))
    assert type(found).__name__ == "SmolVLMProcessor"
    assert modalities(found) == {Modality.IMAGE}


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_family_of_torchvision_alone_says_so(build: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(build("qwen2_vl"), tmp_path / "other")
    settings = {"image_processor_type": "Sam2ImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ImportError, match="install the torchvision that belongs to this torch"):
        processor_of(folder)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    folder = tiny.save(tiny.seeded(lambda: T5ForConditionalGeneration(config)), tmp_path / "t5")
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        load_encoder(folder, WritingModel)


def test_a_model_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    folder = tiny.save(tiny.seeded(lambda: ViTModel(config)), tmp_path / "vit")
    with pytest.raises(ValueError, match="writes nothing"):
        load_encoder(folder, WritingModel)


EVIL = "from pathlib import Path\nPath({mark!r}).write_text('ran')\n"
AUTO = {
    "AutoConfig": "evil.Config",
    "AutoModelForCausalLM": "evil.Model",
    "AutoModelForImageTextToText": "evil.Model",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    "AutoProcessor": "evil.Processor",
    "AutoImageProcessor": "evil.ImageProcessor",
}


def with_code(folder: Path, mark: Path) -> None:
    """Code for everything that a checkpoint may bring code for."""
    (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(EVIL.format(mark=str(mark)))
    for path in folder.glob("*config.json"):
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "auto_map": AUTO}))


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen2"])
def test_code_in_a_checkpoint_of_a_known_family_never_runs(
    build: Any, tmp_path: Path, name: str
) -> None:
    folder, mark = shutil.copytree(build(name), tmp_path / "code"), tmp_path / "mark"
    with_code(folder, mark)
    processor_of(folder)
    assert not mark.exists()


def test_a_family_that_only_the_checkpoints_code_knows_is_refused(
    build: Any, tmp_path: Path
) -> None:
    folder, mark = shutil.copytree(build("llama"), tmp_path / "code"), tmp_path / "mark"
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "unheard-of"}))
    with_code(folder, mark)
    with pytest.raises(ValueError, match="trust_remote_code"):
        processor_of(folder)
    assert not mark.exists()
