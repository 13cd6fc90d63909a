"""Encoders of every modality are tuned by peft's methods, and nothing else of them moves."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.items import Item, Modality
from embedders.registry import EncoderConfig, create
from embedders.tuning import registry
from embedders.tuning.config import Method, TuningConfig
from tests.embedders import test_audio_auto as audio
from tests.embedders import test_image_auto as image
from tests.embedders import test_text_auto as text
from tests.embedders import tiny
from tests.embedders.tuning.adapters import adapted, saved, train, vectors

SAME = 1e-5
BUILDERS = {
    "bert": (Modality.TEXT, text.bert),
    "roberta": (Modality.TEXT, text.roberta),
    "qwen2": (Modality.TEXT, text.qwen2),
    "qwen3": (Modality.TEXT, text.qwen3),
    "gpt2": (Modality.TEXT, text.gpt2),
    "t5": (Modality.TEXT, text.t5),
    "vit": (Modality.IMAGE, image.vit),
    "clip": (Modality.IMAGE, image.clip),
    "siglip2": (Modality.IMAGE, image.siglip2),
    "resnet": (Modality.IMAGE, image.resnet),
    "wav2vec2": (Modality.AUDIO, audio.wav2vec2),
    "ast": (Modality.AUDIO, audio.ast),
    "clap": (Modality.AUDIO, audio.clap),
}
LAYERED: tuple[Method, ...] = ("lora", "ia3", "bitfit")
CASES: list[tuple[str, Method]] = [
    *((name, "lora") for name in BUILDERS if name != "resnet"),
    *((name, method) for name in ("bert", "siglip2", "clap") for method in ("ia3", "bitfit")),
    *((name, "prompt") for name in ("bert", "roberta", "gpt2", "t5")),
    *((name, "prefix") for name in ("bert", "roberta", "qwen2", "qwen3")),
    ("gpt2", "ia3"),
    ("qwen2", "bitfit"),
]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, EncoderConfig]:
    root = tmp_path_factory.mktemp("tunable")
    return {
        name: EncoderConfig(
            modality=modality, encoder="auto", model=str(build(root / f"tiny-{name}"))
        )
        for name, (modality, build) in BUILDERS.items()
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Modality, list[Item]]:
    folder = tmp_path_factory.mktemp("items")
    return {
        Modality.TEXT: tiny.text_items(),
        Modality.IMAGE: tiny.image_items(folder),
        Modality.AUDIO: tiny.audio_items(folder),
    }


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_without_an_adapter_the_vectors_are_the_embedders_own(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]], name: str
) -> None:
    config = configs[name]
    own = create(config, catalog=None).embed(items[config.modality])[0]  # type: ignore[arg-type]
    tunable = registry.create(config)
    np.testing.assert_allclose(
        vectors(tunable, items[config.modality]), own.vectors_ND, atol=SAME, rtol=0
    )
    assert tunable.num_trained == 0


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_was_tuned_moves_the_vectors_and_is_the_same_when_it_is_loaded(
    configs: Mapping[str, EncoderConfig],
    items: Mapping[Modality, list[Item]],
    tmp_path: Path,
    name: str,
    method: Method,
) -> None:
    config = configs[name]
    content = items[config.modality]
    before = vectors(registry.create(config), content)
    tunable = adapted(config, method)
    start = vectors(tunable, content)
    if method in LAYERED:
        np.testing.assert_allclose(start, before, atol=SAME, rtol=0)
    after = train(tunable, content)
    assert np.abs(after - start).max() > 1e-3

    tunable.save(tmp_path)
    plain = create(config, catalog=None)  # type: ignore[arg-type]
    loaded = create(replace(config, adapter=tmp_path), catalog=None)  # type: ignore[arg-type]
    embedded = loaded.embed(content)[0].vectors_ND
    np.testing.assert_allclose(embedded, after, atol=SAME, rtol=0)
    assert loaded.space.space_id != plain.space.space_id
    assert loaded.space.revision.startswith(f"{plain.space.revision}+")

    again = adapted(config, method, seed=5)
    again.load(tmp_path)
    np.testing.assert_array_equal(vectors(again, content), after)


@pytest.mark.parametrize("method", ["lora", "ia3", "bitfit", "prompt", "prefix"])
def test_the_encoders_own_weights_stay_bit_for_bit(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]], method: Method
) -> None:
    plain = sorted(
        one.detach().numpy().tobytes()
        for one in registry.create(configs["bert"]).module.parameters()
    )
    tunable = adapted(configs["bert"], method)
    train(tunable, items[Modality.TEXT])
    frozen = sorted(
        one.detach().numpy().tobytes()
        for one in tunable.module.parameters()
        if not one.requires_grad
    )
    assert frozen == plain


def test_dropout_is_off_even_where_the_module_was_set_to_train(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]]
) -> None:
    tunable = adapted(configs["bert"], "lora")
    expected = vectors(tunable, items[Modality.TEXT])
    tunable.module.train()
    np.testing.assert_array_equal(vectors(tunable, items[Modality.TEXT]), expected)


def test_equal_seeds_begin_alike_and_leave_the_callers_random_numbers_alone(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]]
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second, other = (adapted(configs["bert"], "prompt", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(4), expected)
    content = items[Modality.TEXT]
    np.testing.assert_array_equal(vectors(first, content), vectors(second, content))
    assert np.abs(vectors(first, content) - vectors(other, content)).max() > 1e-3


def test_the_share_counts_a_pictures_tower_without_the_texts(
    configs: Mapping[str, EncoderConfig],
) -> None:
    tunable = adapted(configs["clip"], "lora")
    trained = [one for one in tunable.module.parameters() if one.requires_grad]
    assert tunable.num_trained == sum(one.numel() for one in trained)
    whole = sum(one.numel() for one in tunable.module.parameters())
    towers = dict(tunable.module.named_children())
    of_texts = sum(one.numel() for one in towers["text_model"].parameters())
    assert tunable.num_parameters <= whole - of_texts
    assert not any(
        "text_model" in name and one.requires_grad
        for name, one in tunable.module.named_parameters()
    )


def test_more_than_the_allowed_share_is_refused(configs: Mapping[str, EncoderConfig]) -> None:
    tunable = registry.create(configs["bert"])
    with pytest.raises(ValueError, match=r"'lora' would train .*max_trained_share allows 2.00%"):
        tunable.adapt(TuningConfig(method="lora"))


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("vit", "prompt", "ViTModel .it reads no tokens.; take one of lora, ia3, bitfit"),
        ("clap", "prefix", "it reads no tokens.; take one of lora, ia3, bitfit"),
        ("t5", "prefix", "T5.*; take one of lora, ia3, prompt"),
        ("qwen3", "bitfit", "no layer of the kind.*; take one of lora, ia3, prompt, prefix"),
        ("resnet", "lora", "no layer of the kind.*; no method can"),
    ],
)
def test_a_method_that_does_not_fit_names_those_that_do(
    configs: Mapping[str, EncoderConfig], name: str, method: Method, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        adapted(configs[name], method)


def test_a_second_adapter_and_saving_none_are_refused(
    configs: Mapping[str, EncoderConfig], tmp_path: Path
) -> None:
    tunable = registry.create(configs["bert"])
    with pytest.raises(ValueError, match="call adapt first"):
        tunable.save(tmp_path)
    tunable.adapt(TuningConfig(method="ia3", max_trained_share=1.0))
    with pytest.raises(ValueError, match="open it anew"):
        tunable.adapt(TuningConfig(method="ia3", max_trained_share=1.0))


def test_a_saved_adapter_names_no_folder_of_this_machine_and_is_the_same_each_time(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]], tmp_path: Path
) -> None:
    folders = [
        saved(configs["bert"], "lora", items[Modality.TEXT], tmp_path / name) for name in ("a", "b")
    ]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["adapter_config.json", "adapter_model.safetensors", "tuning.json"]
    assert str(Path(str(configs["bert"].model)).parent).encode() not in b"".join(files[0].values())
    facts = json.loads(files[0]["adapter_config.json"])
    assert (facts["peft_type"], facts["base_model_name_or_path"]) == ("LORA", "tiny-bert")


def test_going_on_from_a_damaged_adapter_says_what_to_delete(
    configs: Mapping[str, EncoderConfig], items: Mapping[Modality, list[Item]], tmp_path: Path
) -> None:
    saved(configs["bert"], "lora", items[Modality.TEXT], tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="delete it, and tuning begins anew"):
        adapted(configs["bert"], "lora").load(tmp_path)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_take_their_places_from_long_texts(
    configs: Mapping[str, EncoderConfig], method: Method, tmp_path: Path
) -> None:
    """RoBERTa here has 22 places in all; four of them are taken."""
    long = [Item(item_id=str(n), title="wine " * (200 + n)) for n in range(3)]
    tunable = adapted(configs["roberta"], method)
    assert len(tunable.embedder.load(long[0])) == 18
    tunable.save(tmp_path)
    loaded = create(replace(configs["roberta"], adapter=tmp_path), catalog=None)  # type: ignore[arg-type]
    assert "at most 18 tokens" in loaded.space.preprocessing
    np.testing.assert_allclose(
        loaded.embed(long)[0].vectors_ND, vectors(tunable, long), atol=SAME, rtol=0
    )


@pytest.mark.parametrize("method", ["lora", "ia3", "bitfit", "prompt", "prefix"])
def test_minilm_is_tuned_by_a_hundredth_of_its_parameters_at_most(
    method: Method, tmp_path: Path
) -> None:
    config = EncoderConfig(modality=Modality.TEXT, encoder="minilm")
    tunable = registry.create(config)
    content = tiny.text_items()
    own = tunable.embedder.embed(content)[0].vectors_ND
    np.testing.assert_allclose(vectors(tunable, content), own, atol=SAME, rtol=0)
    tunable.adapt(TuningConfig(method=method))
    assert 0 < tunable.num_trained / tunable.num_parameters < 0.01
    after = train(tunable, content)
    assert np.abs(after - own).max() > 1e-3
    tunable.save(tmp_path)
    loaded = create(replace(config, adapter=tmp_path), catalog=None)  # type: ignore[arg-type]
    np.testing.assert_allclose(loaded.embed(content)[0].vectors_ND, after, atol=SAME, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_an_adapter_tuned_on_a_gpu_is_the_same_on_the_cpu(
    configs: Mapping[str, EncoderConfig],
    items: Mapping[Modality, list[Item]],
    tmp_path: Path,
    method: Method,
) -> None:
    config = replace(configs["bert"], device="cuda")
    tunable = adapted(config, method)
    content = items[Modality.TEXT]
    contents = [tunable.embedder.load(item) for item in content]
    trained = [one for one in tunable.module.parameters() if one.requires_grad]
    assert all(one.is_cuda for one in trained)
    torch.autograd.backward(tunable.encode(contents)[0].sum())
    torch.optim.SGD(trained, lr=0.1).step()
    expected = tunable.encode(contents).detach().cpu().numpy()
    tunable.save(tmp_path)
    loaded = create(replace(configs["bert"], device="cpu", adapter=tmp_path), catalog=None)  # type: ignore[arg-type]
    np.testing.assert_allclose(loaded.embed(content)[0].vectors_ND, expected, atol=1e-3, rtol=0)
