"""Weights are pinned, read from safetensors alone, and whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.checkpoint import (  # first: it makes transformers importable
    device_of,
    load_encoder,
    precision,
    resolve,
)
from embedders.items import Modality
from tests.embedders import tiny

# isort: split
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertForMaskedLM, BertModel, T5Config, T5Model

COMMIT = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"


def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tiny.seeded(lambda: BertModel(bert_config())), tmp_path / "tiny-bert")


def test_a_hub_id_is_pinned_by_its_commit() -> None:
    checkpoint = resolve("org/some.model-v2", revision=COMMIT)
    assert (checkpoint.name, checkpoint.revision) == ("some.model-v2", COMMIT)
    assert checkpoint.options == {"revision": COMMIT}


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:7]])
def test_a_hub_id_without_a_commit_is_refused(revision: str | None) -> None:
    with pytest.raises(ValueError, match="pin a revision of 'org/model'"):
        resolve("org/model", revision=revision)


@pytest.mark.parametrize("model", ["./not/there", "", "a/b/c", "org/../model", Path("org/model")])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(model: str | Path) -> None:
    with pytest.raises(ValueError, match="neither an existing folder nor a hub id"):
        resolve(model, revision=COMMIT)


def test_a_folder_is_pinned_by_the_digest_of_its_files(folder: Path) -> None:
    first = resolve(folder)
    assert first.name == "tiny-bert"
    assert first == resolve(str(folder))
    assert first.options == {"local_files_only": True}
    (folder / "README.md").write_text("says nothing about the vectors")
    assert resolve(folder).revision == first.revision
    (folder / "tokenizer_config.json").write_text("{}")
    assert resolve(folder).revision != first.revision


def test_a_moved_folder_keeps_its_digest(folder: Path) -> None:
    before = resolve(folder).revision
    assert resolve(folder.rename(folder.parent / "elsewhere")).revision == before


def test_a_folder_takes_no_revision(folder: Path) -> None:
    with pytest.raises(ValueError, match="leave out the revision"):
        resolve(folder, revision=COMMIT)


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        resolve(folder)


def test_an_encoder_is_loaded_for_evaluation_without_a_word(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_encoder(folder, AutoModel)
    assert not loaded.model.training
    assert loaded.has_pooler
    assert capfd.readouterr() == ("", "")


def test_a_pooling_layer_that_was_never_trained_is_noticed(tmp_path: Path) -> None:
    folder = tiny.save(tiny.seeded(lambda: BertForMaskedLM(bert_config())), tmp_path / "masked")
    loaded = load_encoder(folder, AutoModel)
    assert not loaded.has_pooler


def test_a_checkpoint_that_lacks_weights_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of BertModel.*query\.weight"):
        load_encoder(folder, AutoModel)


def test_of_an_encoder_decoder_only_the_encoder_is_kept(tmp_path: Path) -> None:
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    folder = tiny.save(tiny.seeded(lambda: T5Model(config)), tmp_path / "t5")
    loaded = load_encoder(folder, AutoModel)
    assert type(loaded.model).__name__ == "T5Stack"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_and_floats_have_the_precision_asked_for_and_other_numbers_keep_theirs(
    folder: Path, dtype: str
) -> None:
    loaded = load_encoder(folder, AutoModel, dtype=dtype)  # type: ignore[arg-type]
    assert {weight.dtype for weight in loaded.model.parameters()} == {getattr(torch, dtype)}
    content = {"pixels": np.ones((2, 3), dtype=np.float32), "mask": np.ones(3, dtype=np.int64)}
    inputs = loaded.inputs([content, content])
    assert inputs["pixels"].dtype == getattr(torch, dtype)
    assert inputs["mask"].dtype == torch.long
    assert inputs["pixels"].shape == (2, 2, 3)


def test_shorter_contents_are_filled_up_with_zeros(folder: Path) -> None:
    contents = [{"samples": np.ones(length, dtype=np.float32)} for length in (3, 1)]
    inputs = load_encoder(folder, AutoModel).inputs(contents)
    assert inputs["samples"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_an_unknown_precision_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype is one of .*'bfloat16'.*got 'int8'"):
        load_encoder(folder, AutoModel, dtype="int8")  # type: ignore[arg-type]


def test_of_the_precision_a_space_says_nothing_where_it_is_the_default() -> None:
    assert precision("float32") == ""
    assert precision("bfloat16") == "; in bfloat16"


def test_the_device_is_chosen_only_where_it_is_left_open() -> None:
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == "cpu"
    assert device_of("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="no device 'gpu': auto, cpu, cuda"):
        device_of("gpu")


def test_a_length_that_is_not_the_models_is_refused(folder: Path) -> None:
    loaded = load_encoder(folder, AutoModel, dim=24)
    assert loaded.space(Modality.TEXT, dim=24, preprocessing="").dim == 24
    with pytest.raises(ValueError, match="tiny-bert gives vectors of 16 dimensions, declared are"):
        loaded.space(Modality.TEXT, dim=16, preprocessing="")
