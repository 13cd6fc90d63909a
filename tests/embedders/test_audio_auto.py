"""Any audio model's vectors keep the contract, for sounds longer than its window too."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from embedders.audio_auto import AutoAudioEmbedder, mean_over_time
from embedders.checkpoint import Dtype
from embedders.items import Item
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

# isort: split
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    AutoFeatureExtractor,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

RATE = 16_000
LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def ast(folder: Path, *, is_classifier: bool = False) -> Path:
    """A window of 1.28 s."""
    config = ASTConfig(**LAYERS, max_length=128, num_mel_bins=32)
    ASTFeatureExtractor(max_length=128, num_mel_bins=32).save_pretrained(folder)
    build = ASTForAudioClassification if is_classifier else ASTModel
    return tiny.save(tiny.seeded(lambda: build(config)), folder)


def classifier(folder: Path) -> Path:
    return ast(folder, is_classifier=True)


def wav2vec2(folder: Path, *, is_masked: bool = False) -> Path:
    """Normalizes over time, so that padding would change its answers; masked, each step alone."""
    config = Wav2Vec2Config(
        **LAYERS,
        conv_dim=[16, 16, 16],
        conv_kernel=[10, 8, 4],
        conv_stride=[5, 8, 4],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer" if is_masked else "group",
        conv_bias=is_masked,
        do_stable_layer_norm=is_masked,
    )
    Wav2Vec2FeatureExtractor(return_attention_mask=is_masked).save_pretrained(folder)
    return tiny.save(tiny.seeded(lambda: Wav2Vec2Model(config)), folder)


def masked(folder: Path) -> Path:
    return wav2vec2(folder, is_masked=True)


def whisper(folder: Path) -> Path:
    """A window of 2 s, padded by its extractor."""
    config = WhisperConfig(
        vocab_size=30,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=100,
        num_mel_bins=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperFeatureExtractor(feature_size=32, chunk_length=2).save_pretrained(folder)
    return tiny.save(tiny.seeded(lambda: WhisperModel(config)), folder)


def clap(folder: Path, *, is_fused: bool = False) -> Path:
    """A window of 2 s; left to itself its extractor would take a random crop of more.

    The fused kind looks at four parts of a sound beside each other; of a batch of short sounds its
    extractor would take a random one for longer.
    """
    config = ClapConfig(
        text_config={**LAYERS, "vocab_size": 30},
        audio_config={
            "hidden_size": 32,
            "spec_size": 64,
            "patch_embeds_hidden_size": 16,
            "patch_size": 4,
            "num_mel_bins": 16,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "window_size": 4,
            "num_classes": 4,
            "enable_fusion": is_fused,
        },
        projection_dim=24,
    )
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        frequency_max=8000,
        max_length_s=2,
        hop_length=160,
        truncation="fusion" if is_fused else "rand_trunc",
    ).save_pretrained(folder)
    return tiny.save(tiny.seeded(lambda: ClapModel(config)), folder)


def fused(folder: Path) -> Path:
    return clap(folder, is_fused=True)


MODELS = {
    "ast": (ast, 16, 128 * 160),
    "classifier": (classifier, 16, 128 * 160),
    "wav2vec2": (wav2vec2, 16, 30 * RATE),
    "masked": (masked, 16, 30 * RATE),
    "whisper": (whisper, 16, 2 * RATE),
    "clap": (clap, 24, 2 * RATE),
    "fused": (fused, 24, 2 * RATE),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("audio")
    return {name: build(root / f"tiny-{name}") for name, (build, _, _) in MODELS.items()}


@pytest.mark.parametrize("name", sorted(MODELS))
class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self, folders: dict[str, Path], name: str) -> Make:
        return lambda batch_size: AutoAudioEmbedder(model=folders[name], batch_size=batch_size)

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        good = tiny.audio_items(tmp_path)
        assert good[0].audio_path is not None
        copy, short = tmp_path / "copy.wav", tmp_path / "short.wav"
        copy.write_bytes(good[0].audio_path.read_bytes())
        soundfile.write(short, tiny.sound(1, seconds=0.05), RATE)
        return World(
            good=good,
            twin=Item(item_id="twin", title="", audio_path=copy),
            bare=Item(item_id="bare", title="no sound"),
            damaged=[
                Item(item_id=path.name, title="", audio_path=path)
                for path in (short, tmp_path / "gone.wav")
            ],
        )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_declared_dimension_and_window_are_the_models(
    folders: dict[str, Path], name: str
) -> None:
    embedder = AutoAudioEmbedder(model=folders[name])
    assert embedder.space.dim == MODELS[name][1]
    assert f"at most {MODELS[name][2]} samples" in embedder.space.preprocessing


def written(folder: Path, name: str, samples: np.ndarray) -> Item:
    path = folder / f"{name}.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return Item(item_id=name, title="", audio_path=path)


@pytest.mark.parametrize("name", ["ast", "clap", "whisper"])
def test_a_long_sound_is_the_average_of_its_windows(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    long = tiny.sound(3, seconds=2.5)
    halves = np.split(long, 2)
    parts = {"long": long, "first": halves[0], "second": halves[1]}
    items = [written(tmp_path, part, samples) for part, samples in parts.items()]
    whole, first, second = vectors(AutoAudioEmbedder(model=folders[name]), items)
    average = (first + second) / np.linalg.norm(first + second)
    np.testing.assert_allclose(whole, average, atol=1e-5)


def plainly(name: str, folder: Path, samples: np.ndarray) -> np.ndarray:
    """One short sound's unit vector by the family's own class and extractor alone."""

    def vector() -> torch.Tensor:
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        inputs = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        match name:
            case "ast":
                model = ASTModel.from_pretrained(folder).eval()
                return model(**inputs).pooler_output  # type: ignore[no-any-return]
            case "classifier":  # pools without weights
                model = ASTForAudioClassification.from_pretrained(folder).eval()
                return model.audio_spectrogram_transformer(**inputs).pooler_output  # type: ignore[no-any-return]
            case "clap" | "fused":
                model = ClapModel.from_pretrained(folder).eval()
                return model.get_audio_features(**inputs).pooler_output  # type: ignore[no-any-return]
            case "whisper":  # two steps of its extractor, of 10 ms each, are one of its encoder
                model = WhisperModel.from_pretrained(folder).eval().get_encoder()
                num_steps = round(len(samples) / RATE * 50)
                hidden_NTD = model(**inputs).last_hidden_state
                return hidden_NTD[:, :num_steps].mean(dim=1)  # type: ignore[no-any-return]
            case _:
                model = Wav2Vec2Model.from_pretrained(folder).eval()
                return model(**inputs).last_hidden_state.mean(dim=1)  # type: ignore[no-any-return]

    with torch.inference_mode():
        return torch.nn.functional.normalize(vector()).numpy()[0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_gives_what_transformers_gives(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    sounds = [tiny.sound(seed, seconds=seconds) for seed, seconds in ((4, 0.7), (5, 1.1), (6, 0.3))]
    items = [written(tmp_path, str(n), samples) for n, samples in enumerate(sounds)]
    found = vectors(AutoAudioEmbedder(model=folders[name]), items)
    expected = [plainly(name, folders[name], samples) for samples in sounds]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sounds_of_any_length_run_together_where_the_model_knows_a_mask(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    lengths = (0.7, 1.1, 0.3, 0.9)
    items = [
        written(tmp_path, str(n), tiny.sound(n, seconds=seconds))
        for n, seconds in enumerate(lengths)
    ]

    def batches(name: str) -> list[list[int]]:
        embedder = AutoAudioEmbedder(model=folders[name], batch_size=3)
        contents = [embedder.load(item) for item in items]
        return [[row for row, _ in batch] for batch in embedder._batches(contents)]

    assert batches("masked") == [[1, 3, 0], [2]]
    assert batches("wav2vec2") == [[0], [1], [2], [3]]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["ast", "clap", "masked", "whisper"])
def test_shorter_floats_give_nearly_the_same_vectors_in_another_space(
    folders: dict[str, Path], tmp_path: Path, name: str, dtype: Dtype
) -> None:
    full = AutoAudioEmbedder(model=folders[name])
    short = AutoAudioEmbedder(model=folders[name], dtype=dtype)
    items = tiny.audio_items(tmp_path)
    cosines = (vectors(full, items) * vectors(short, items)).sum(axis=1)
    assert 0.98 < cosines.min() < 1 - 1e-9
    assert short.space.preprocessing == f"{full.space.preprocessing}; in {dtype}"
    assert vectors(short, items).dtype == np.float32


def test_of_a_long_sound_the_middle_counts_as_far_as_the_limit(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    samples = np.concatenate([tiny.sound(seed, seconds=1) for seed in (1, 2, 3)])
    items = [
        written(tmp_path, "long", samples),
        written(tmp_path, "middle", samples[RATE : 2 * RATE]),
    ]
    embedder = AutoAudioEmbedder(model=folders["clap"], limit_s=1)
    np.testing.assert_allclose(*vectors(embedder, items), atol=1e-6)
    assert "the middle 1 s" in embedder.space.preprocessing
    default = AutoAudioEmbedder(model=folders["clap"]).space
    assert AutoAudioEmbedder(model=folders["clap"], limit_s=60.0).space == default
    with pytest.raises(ValueError, match="limit_s is 1 to 600"):
        AutoAudioEmbedder(model=folders["clap"], limit_s=0)


def test_a_declared_length_is_checked_when_the_model_is_loaded(folders: dict[str, Path]) -> None:
    assert AutoAudioEmbedder(model=folders["clap"], dim=24).space.dim == 24
    with pytest.raises(ValueError, match="vectors of 24 dimensions, declared are 512; correct"):
        AutoAudioEmbedder(model=folders["clap"], dim=512)


@pytest.mark.gpu
def test_a_gpu_is_found_and_gives_the_same_vectors(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    gpu = AutoAudioEmbedder(model=folders["ast"])
    cpu = AutoAudioEmbedder(model=folders["ast"], device="cpu")
    assert gpu.space == cpu.space
    assert next(gpu._encoder.model.parameters()).is_cuda
    items = tiny.audio_items(tmp_path)
    np.testing.assert_allclose(vectors(gpu, items), vectors(cpu, items), atol=1e-3)


def test_the_mean_over_time_leaves_padding_out() -> None:
    hidden_NTD = torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [2.0], [6.0]]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert mean_over_time(hidden_NTD, mask).flatten().tolist() == [2.0, 3.0]
    assert mean_over_time(hidden_NTD, None).flatten().tolist() == pytest.approx([104 / 3, 3.0])


def test_loading_is_quiet(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    AutoAudioEmbedder(model=folders["classifier"])
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_without_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="pin a revision"):
        AutoAudioEmbedder(model="org/model")
