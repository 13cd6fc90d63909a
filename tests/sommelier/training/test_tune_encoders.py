"""Encoders are tuned by what was chosen before the cut, once, and their adapters embed."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedders.items import Modality
from feature_repo.base import Entity
from sommelier.settings_file import load
from sommelier.training.tune_encoders import LEFT_S, remove_left, tune_encoders
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.child import child
from tests.embedders import test_audio_auto as audio
from tests.embedders import test_image_auto as image
from tests.embedders import test_text_auto as text
from tests.embedders import tiny
from tests.sommelier.conftest import Run

NUM_ITEMS, NUM_USERS = 24, 18
SETTINGS = """
[tuning]
dim = 8
epochs = 5
steps = 12
batch_size = 8
save_every = 2
rank = 2
max_trained_share = 0.5
[embedding]
num_workers = 0
"""
MODELS = {"text": ("tiny-bert", text.bert), "image": ("tiny-clip", image.clip)}
MODELS |= {"audio": ("tiny-ears", audio.wav2vec2)}
PATIENCE_S = 200


def encoders(adapters: dict[str, str] | None = None) -> str:
    """The settings' tables of all three."""
    tables = []
    for modality, (model, _) in MODELS.items():
        lines = [f'modality = "{modality}"', 'encoder = "auto"', f'model = "{model}"']
        if adapters:
            lines.append(f'adapter = "{adapters[modality]}"')
        tables.append("\n".join(["[[encoders]]", *lines, ""]))
    return "".join(tables)


def write_events(folder: Path, *, after_the_cut: str = "") -> None:
    """Of a third of the items each user likes some; the last lines lie after the cut."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,behavior,timestamp"]
    for n in range(NUM_ITEMS * 10):
        user, third = rng.integers(NUM_USERS), rng.integers(NUM_ITEMS // 3)
        moment = f"2024-01-01T00:{n // 60:02}:{n % 60:02}Z"
        lines.append(f"u{user:02},i{third * 3 + user % 3:02},view,{moment}")
    if after_the_cut:
        lines[-1] = f"u00,{after_the_cut},view,2024-01-01T00:59:59Z"
    (folder / "catalog/interactions.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of items with a title, a picture and a sound, and a model for each."""
    folder = tmp_path_factory.mktemp("tuning")
    (folder / "catalog/media").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["item_id,title,image_path,audio_path"]
    for n in range(NUM_ITEMS):
        tiny.picture(n).save(folder / f"catalog/media/{n}.png")
        soundfile.write(folder / f"catalog/media/{n}.wav", tiny.sound(n, seconds=0.3), 16_000)
        title = " ".join(rng.choice(tiny.WORDS[:-4], 6))
        lines.append(f"i{n:02},{title},media/{n}.png,media/{n}.wav")
    (folder / "catalog/items.csv").write_text("\n".join(lines))
    write_events(folder)
    for model, build in MODELS.values():
        build(folder / model)
    path = folder / "sommelier.toml"
    path.write_text(SETTINGS + encoders())
    return path


def adapters(output: str) -> dict[str, str]:
    """What the command says is to be put into the settings."""
    return dict(re.findall(r'\[\[encoders\]\] of (\w+): adapter = "([^"]+)"', output))


@pytest.mark.slow
def test_a_shop_is_tuned_once_and_embedded_with_what_it_gave(catalog: Path, run: Run) -> None:
    result = run("embed", "--settings", catalog)
    assert result.exit_code == 0, result.output + result.stderr
    plain = {one.modality: one for one in Workspace(load(catalog)).spaces()}

    result = run("tune-encoders", "--settings", catalog, "--modality", "text,image,audio")
    assert result.exit_code == 0, result.output + result.stderr
    assert "Tuned" in result.output
    assert "peak memory" in result.output
    assert "recall@20" in result.output
    found = adapters(result.output)
    assert sorted(found) == ["audio", "image", "text"]
    assert not any(Path(one).is_absolute() for one in found.values())

    catalog.write_text(SETTINGS + encoders(found))
    result = run("embed", "--settings", catalog)
    assert result.exit_code == 0, result.output + result.stderr
    workspace = Workspace(load(catalog))
    tuned = {one.modality: one for one in workspace.spaces()}
    held = workspace.store.spaces()
    for modality, space in tuned.items():
        assert modality is not None
        assert space.revision.startswith(f"{plain[modality].revision}+")
        assert (Entity.ITEM, plain[modality].space_id) in held
        before = workspace.store.read(plain[modality]).vectors_ND
        after = workspace.store.read(space).vectors_ND
        assert len(after) == NUM_ITEMS
        assert np.abs(after - before).max() > 1e-4
    (known,) = {one.event_timestamp for _, one in workspace.store.known(tuned[Modality.TEXT])}
    assert known == workspace.timeline.graph_until

    # The same again, by the same base: the adapter in the settings is not tuned on.
    result = run("tune-encoders", "--settings", catalog)
    assert result.exit_code == 0, result.output + result.stderr
    assert "Nothing new to tune" in result.output
    assert adapters(result.output) == found


@pytest.mark.slow
def test_what_happens_after_the_graphs_cut_changes_nothing(catalog: Path) -> None:
    catalog.write_text(SETTINGS + encoders())
    write_events(catalog.parent)
    first = tune_encoders(Workspace(load(catalog)), watch=Unwatched(), modalities=["text"])
    assert first.is_new
    write_events(catalog.parent, after_the_cut="i05")
    left = left_behind(catalog.parent / "models/tuned" / ("0" * 16), age_s=LEFT_S + 1)
    again = tune_encoders(Workspace(load(catalog)), watch=Unwatched(), modalities=["text"])
    assert not again.is_new
    assert again.notes[-1] == "removed what killed runs of other inputs left a week ago: 1"
    assert not left.exists()
    write_events(catalog.parent)
    other = Workspace(load(catalog, overrides=["tuning.seed=1"]))
    assert tune_encoders(other, watch=Unwatched(), modalities=["text"]).is_new


@pytest.mark.slow
@pytest.mark.timeout(900)  # three processes import their libraries anew
def test_a_killed_run_goes_on_and_ends_where_an_unkilled_one_does(catalog: Path) -> None:
    catalog.write_text(SETTINGS + encoders())
    write_events(catalog.parent)
    words = ["tune-encoders", "--modality", "text", "--set", "tuning.seed=7"]
    killed, whole = (
        ["--set", f"paths.models={name}", "--set", "tuning.steps=60"]
        for name in ("killed", "whole")
    )
    with started(catalog, [*words, *killed]) as process:
        await_checkpoint(catalog.parent / "killed", process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not list((catalog.parent / "killed").rglob("adapter_model.safetensors"))

    for options in (killed, whole):
        with started(catalog, [*words, *options]) as process:
            output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
    one, two = (
        next((catalog.parent / name).rglob("adapter_model.safetensors")).read_bytes()
        for name in ("killed", "whole")
    )
    assert one == two


def left_behind(folder: Path, *names: str, age_s: float) -> Path:
    """What a killed run leaves, and files of these names; last written to so long ago."""
    names = ("stage_one.safetensors", "text/adapter_config.json", *names)
    files = [folder / name for name in names]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    then = time.time() - age_s
    for path in (*files, folder / "text", folder):
        os.utime(path, (then, then))
    return folder


def test_what_a_killed_run_left_goes_a_week_later_and_nothing_else_does(tmp_path: Path) -> None:
    fresh = left_behind(tmp_path / ("a" * 16), age_s=LEFT_S - 3600)
    old = left_behind(tmp_path / ("b" * 16), age_s=LEFT_S + 1)
    finished = left_behind(tmp_path / ("c" * 16), "tuning.json", age_s=LEFT_S + 1)
    another = left_behind(tmp_path / "of-somebody-else", age_s=LEFT_S + 1)
    resumed = left_behind(tmp_path / ("d" * 16), age_s=LEFT_S + 1)
    (resumed / "checkpoint.safetensors").touch()
    assert remove_left(tmp_path) == 1
    assert set(tmp_path.iterdir()) == {fresh, finished, another, resumed}
    assert not old.exists()
    assert remove_left(tmp_path) == 0


def started(catalog: Path, words: list[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    root = str(Path(__file__).parents[3])
    return child(
        [sys.executable, "-c", "from sommelier.app import main; main()", *words],
        cwd=catalog.parent,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def await_checkpoint(models: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not list(models.rglob("checkpoint.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("tables", "modalities", "message"),
    [
        (encoders(), ["taste"], "--modality 'taste': the settings have encoders of audio, image"),
        (
            "[[encoders]]\nmodality = 'image'\nencoder = 'hog'\n",
            ["image"],
            "image encoder 'hog' has no weights that can be tuned; of this modality auto can",
        ),
        (
            "[[encoders]]\nmodality = 'image'\nencoder = 'hog'\n",
            None,
            "none of the encoders .image hog. has weights that can be tuned: take minilm",
        ),
    ],
)
def test_encoders_that_cannot_be_tuned_are_refused_by_name(
    catalog: Path, tables: str, modalities: list[str] | None, message: str
) -> None:
    path = catalog.with_name("other.toml")
    path.write_text(tables)
    with pytest.raises(ValueError, match=message):
        tune_encoders(Workspace(load(path)), watch=Unwatched(), modalities=modalities)


@pytest.mark.slow
def test_a_share_that_is_no_longer_allowed_is_refused_though_it_was_tuned(catalog: Path) -> None:
    catalog.write_text(SETTINGS + encoders())
    write_events(catalog.parent)
    tune_encoders(Workspace(load(catalog)), watch=Unwatched(), modalities=["text"])
    strict = Workspace(load(catalog, overrides=["tuning.max_trained_share=0.01"]))
    with pytest.raises(ValueError, match=r"max_trained_share allows 1\.00%; lower rank"):
        tune_encoders(strict, watch=Unwatched(), modalities=["text"])


def test_a_method_that_does_not_fit_fails_before_anything_is_trained(catalog: Path) -> None:
    catalog.write_text(SETTINGS + encoders())
    write_events(catalog.parent)
    settings = load(catalog, overrides=["tuning.method=prefix", "paths.models=unfit"])
    with pytest.raises(ValueError, match="'prefix' cannot be put into CLIPModel"):
        tune_encoders(Workspace(settings), watch=Unwatched(), modalities=["image"])
    assert not list((catalog.parent / "unfit").rglob("*.safetensors"))
