"""The same encoder agrees with its probes on any day; another one, or a swapped one, does not."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from embedders import probes
from embedders.audio_fbank import FbankEmbedder
from embedders.base import BadContent, Embedder
from embedders.brought import BroughtEmbedder
from embedders.image_hog import HogEmbedder
from embedders.items import Item, Modality
from embedders.probes import Probes, agree, cosines, probe
from embedders.text_sentence import SentenceEmbedder
from embedders.vectors import Embeddings, Space

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
DIM = 24


class Letters(Embedder):
    """Counts of letters through a matrix of weights, which the space says nothing of."""

    space = Space(modality=Modality.TEXT, encoder="letters", revision="declared", dim=DIM)

    def __init__(self, *, seed: int = 0, is_latin: bool = False) -> None:
        self.weights_LD = np.random.default_rng(seed).normal(size=(64, DIM))
        self._is_latin = is_latin

    def fingerprint(self, item: Item) -> str | None:
        return item.title or None

    def load(self, item: Item) -> NDArray[np.float64]:
        if self._is_latin and not item.title.isascii():
            raise BadContent("no token for it")
        return np.bincount([ord(one) % 64 for one in item.title], minlength=64).astype(float)

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        return np.asarray(np.stack(contents) @ self.weights_LD, dtype=np.float32)


def stored(embeddings: Embeddings | None) -> Probes:
    assert embeddings is not None
    return Probes(
        item_ids=tuple(embeddings.item_ids), vectors_KD=embeddings.vectors_ND, created=WHEN
    )


def again(embedder: Embedder) -> Embeddings:
    found = probe(embedder)
    assert found is not None
    return found


@pytest.mark.parametrize("make", [Letters, HogEmbedder, FbankEmbedder])
def test_an_encoder_made_anew_agrees_with_its_probes(make: type[Embedder]) -> None:
    before = stored(probe(make()))
    assert len(before.item_ids) >= 4
    assert agree(before, again(make()))


def test_the_probes_differ_from_each_other_so_that_a_constant_encoder_cannot_pass() -> None:
    for embedder in (HogEmbedder(), FbankEmbedder()):
        vectors_KD = again(embedder).vectors_ND
        cosines_KK = vectors_KD @ vectors_KD.T
        assert cosines_KK[~np.eye(len(cosines_KK), dtype=bool)].max() < 0.9


def test_other_weights_in_the_same_space_disagree() -> None:
    assert not agree(stored(probe(Letters(seed=0))), again(Letters(seed=1)))


def test_one_vector_that_turned_is_enough_to_disagree() -> None:
    now = again(Letters())
    turned_ND = now.vectors_ND.copy()
    turned_ND[3] = -turned_ND[3]
    assert not agree(stored(now), replace(now, vectors_ND=turned_ND))


def test_the_rounding_of_another_precision_still_agrees() -> None:
    now = again(Letters())
    bits_ND = now.vectors_ND.view(np.uint32) & np.uint32(0xFFFF0000)  # what bfloat16 keeps
    rounded_ND = bits_ND.view(np.float32)
    lengths_N1 = np.linalg.norm(rounded_ND, axis=1, keepdims=True)
    assert not np.array_equal(rounded_ND, now.vectors_ND)
    assert agree(stored(now), replace(now, vectors_ND=rounded_ND / lengths_N1))


def test_minilm_agrees_with_itself_and_not_with_weights_that_are_a_few_percent_off() -> None:
    embedder = SentenceEmbedder(model="minilm")
    before = stored(probe(embedder))
    assert len(before.item_ids) == len(probes.TEXTS)
    assert agree(before, again(SentenceEmbedder(model="minilm")))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in embedder._model.parameters():
            weight.add_(torch.randn_like(weight) * weight.abs().mean(), alpha=0.03)
    assert cosines(before, again(embedder)).min() < probes.LEAST_COSINE
    assert not agree(before, again(embedder))


def test_what_an_encoder_has_no_token_for_is_left_out_and_must_stay_so() -> None:
    latin = stored(probe(Letters(is_latin=True)))
    assert latin.item_ids == ("probe-word", "probe-latin", "probe-digits", "probe-long")
    assert agree(latin, again(Letters(is_latin=True)))
    assert not agree(latin, again(Letters()))


def test_vectors_that_are_looked_up_have_no_probes(tmp_path: Path) -> None:
    path = tmp_path / "text_toy.parquet"
    pq.write_table(pa.table({"item_id": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]]}), path)
    assert probe(BroughtEmbedder(path, modality=Modality.TEXT, name="toy")) is None


def test_pictures_are_read_as_they_were_meant(tmp_path: Path) -> None:
    for item in probes.items(Modality.IMAGE, tmp_path):
        assert item.image_path is not None
        width, height = probes.PICTURES[item.title]
        with Image.open(item.image_path) as picture:
            assert picture.format == "PNG"
            expected = probes._pixels(item.title, width, height)
            np.testing.assert_array_equal(np.asarray(picture), expected)


def test_sounds_are_read_as_they_were_meant(tmp_path: Path) -> None:
    for item in probes.items(Modality.AUDIO, tmp_path):
        assert item.audio_path is not None
        samples, rate = soundfile.read(item.audio_path, dtype="int16")
        assert rate == probes.RATE
        seconds = probes.SOUNDS[item.title]
        np.testing.assert_array_equal(
            samples, probes._samples(item.title, int(seconds * probes.RATE))
        )


def test_the_probes_never_change_as_every_store_would_be_refused() -> None:
    pictures = [probes._pixels(name, *size) for name, size in probes.PICTURES.items()]
    noise = probes._samples("noise", int(probes.SOUNDS["noise"] * probes.RATE))
    whole = hashlib.sha256("\0".join(probes.TEXTS.values()).encode())
    for array in (*pictures, noise):
        whole.update(array.tobytes())
    assert whole.hexdigest()[:16] == "1980aa16f897f596"


def test_an_encoder_of_summaries_is_proven_by_the_same_texts(tmp_path: Path) -> None:
    read = probes.items(Modality.SUMMARY, tmp_path)
    assert [one.summary for one in read] == list(probes.TEXTS.values())
    assert [one.item_id for one in read] == [
        one.item_id for one in probes.items(Modality.TEXT, tmp_path)
    ]
