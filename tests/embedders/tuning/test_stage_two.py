"""Tuning finds a taste that frozen features hide, trains what it may, and goes on when killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.items import Modality
from embedders.tuning import stage_one, stage_two
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features, aligned
from embedders.tuning.recommender import Recommender
from embedders.tuning.vbpr import Vbpr
from tests.embedders.tuning.planted import LinearTunable, World, told_apart, world

CONFIG = TuningConfig(
    dim=8,
    epochs=30,
    patience=20,
    base_batch_size=128,
    base_learning_rate=0.03,
    steps=150,
    batch_size=24,
    learning_rate=0.03,
    save_every=10,
    joint_epochs=10,
    refresh_every=20,
)
TEXT = Modality.TEXT


def begun(
    own: World, config: TuningConfig = CONFIG
) -> tuple[LinearTunable, Recommender, dict[Modality, Features]]:
    tunable = LinearTunable(own.numbers)
    frozen = {TEXT: aligned(tunable.embedder.embed(own.items)[0], own.choices.item_ids)}
    if config.regime == "joint":
        recommender = stage_one.create(own.choices, frozen, config)
    else:
        recommender = stage_one.fit(own.choices, frozen, config).recommender
    tunable.adapt(config)
    return tunable, recommender, frozen


def run(
    own: World, folder: Path, config: TuningConfig = CONFIG, **told: Callable[..., None]
) -> tuple[LinearTunable, Recommender, stage_two.Tuned]:
    tunable, recommender, _ = begun(own, config)
    tuned = stage_two.tune(
        {TEXT: tunable},
        own.items,
        own.choices,
        recommender,
        config=config,
        folder=folder,
        **told,  # type: ignore[arg-type]
    )
    return tunable, recommender, tuned


def separation(own: World, recommender: Recommender) -> float:
    return told_apart(recommender.features(TEXT).numpy(), own.kinds_I)


def test_the_hidden_taste_is_found_in_items_nobody_chose_too(tmp_path: Path) -> None:
    own = world()
    _, before, _ = begun(own)
    _, after, tuned = run(own, tmp_path)
    assert separation(own, before) < 0.1
    assert separation(own, after) > 0.3
    assert np.mean(tuned.losses[-20:]) < np.mean(tuned.losses[:20])
    assert np.mean(tuned.transfers[-20:]) < np.mean(tuned.transfers[:20])

    def cold(recommender: Recommender) -> float:
        scores = recommender.scores(torch.arange(120)).numpy()[:, -own.num_cold :]
        is_liked = own.tastes_U[:, None] == own.kinds_I[None, -own.num_cold :]
        return float((scores[is_liked].mean() - scores[~is_liked].mean()) / scores.std())

    assert cold(after) > 1 > cold(before)


def test_what_ids_know_already_only_the_transfer_teaches_the_encoder(tmp_path: Path) -> None:
    own = world()
    _, dual, _ = run(own, tmp_path / "dual")
    _, alone, _ = run(own, tmp_path / "alone", replace(CONFIG, regime="no_transfer"))
    assert separation(own, dual) > separation(own, alone) + 0.3


def test_without_transfer_and_jointly_the_loss_is_the_base_s_alone(tmp_path: Path) -> None:
    own = world()
    for regime in ("no_transfer", "joint"):
        config = replace(CONFIG, regime=regime, steps=20)  # type: ignore[arg-type]
        _, _, tuned = run(own, tmp_path / regime, config)
        assert set(tuned.transfers) == {0.0}
        assert all(loss > 0 for loss in tuned.losses)


def test_stage_two_trains_adapters_and_projections_alone(tmp_path: Path) -> None:
    own = world()
    _, before, frozen = begun(own)
    tunable, after, _ = run(own, tmp_path, replace(CONFIG, steps=5))
    states = before.state_dict(), after.state_dict()
    moved = {name for name in states[0] if (states[0][name] != states[1][name]).any()}
    assert moved == {"projections.text.weight"}
    assert tunable.module.up.abs().sum() > 0
    fresh = LinearTunable(own.numbers).module
    assert (tunable.module.weight == fresh.weight).all()
    assert (after.features(TEXT).numpy() != frozen[TEXT].vectors_ID).any()


def test_items_nobody_chose_teach_nothing(tmp_path: Path) -> None:
    own, config = world(), replace(CONFIG, steps=1, epochs=2)
    transfers = []
    for scale in (1.0, -50.0):
        tunable, recommender, _ = begun(own, config)
        assert isinstance(recommender, Vbpr)
        with torch.no_grad():
            recommender.items[-own.num_cold :] *= scale
            recommender.items[-own.num_cold :, 0] += scale
        tuned = stage_two.tune(
            {TEXT: tunable},
            own.items,
            own.choices,
            recommender,
            config=config,
            folder=tmp_path / str(scale),
        )
        transfers.append(tuned.transfers)
    assert transfers[0] == transfers[1]
    assert transfers[0][0] > 0


def test_a_loss_that_is_lost_says_what_to_lower(tmp_path: Path) -> None:
    own = world()
    tunable, recommender, _ = begun(own, replace(CONFIG, epochs=1))
    with torch.no_grad():
        next(recommender.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"step 1 is nan: lower learning_rate \(now 0.03\)"):
        stage_two.tune(
            {TEXT: tunable},
            own.items,
            own.choices,
            recommender,
            config=CONFIG,
            folder=tmp_path,
        )
    with pytest.raises(ValueError, match=r"lower base_learning_rate \(now 1e\+30\)"):
        begun(own, replace(CONFIG, base_learning_rate=1e30))


def test_joint_trains_all_of_the_recommender_beside(tmp_path: Path) -> None:
    own, config = world(), replace(CONFIG, regime="joint", steps=5)
    _, before, _ = begun(own, config)
    _, after, _ = run(own, tmp_path, config)
    states = before.state_dict(), after.state_dict()
    assert all((states[0][name] != states[1][name]).any() for name in states[0])


def test_the_recommender_reads_what_the_tuned_encoder_makes(tmp_path: Path) -> None:
    own = world()
    tunable, recommender, _ = run(own, tmp_path, replace(CONFIG, steps=5))
    made = tunable.embedder.encode([own.numbers[item.item_id] for item in own.items])
    np.testing.assert_allclose(recommender.features(TEXT).numpy(), made, atol=1e-6)


class KilledError(Exception):
    """As if the process had ended."""


@pytest.mark.parametrize(
    ("regime", "base"), [("dual", "vbpr"), ("joint", "vbpr"), ("dual", "lightgcn"), ("dual", "bm3")]
)
def test_killed_and_begun_again_the_weights_are_those_of_one_run(
    regime: str, base: str, tmp_path: Path
) -> None:
    own = world()
    config = replace(CONFIG, regime=regime, base=base, steps=33, epochs=3)  # type: ignore[arg-type]
    tunable, recommender, tuned = run(own, tmp_path / "whole", config)

    def kill(_: str, done: int, of: int, loss: float) -> None:
        if done == 27:
            raise KilledError

    with pytest.raises(KilledError):
        run(own, tmp_path / "killed", config, on_progress=kill)
    told: list[int] = []
    again, other, twice = run(
        own,
        tmp_path / "killed",
        config,
        on_progress=lambda _, done, of, loss: told.append(done),
    )
    assert told == list(range(21, 34))
    assert twice.losses == tuned.losses
    states = tunable.module.state_dict(), again.module.state_dict()
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    states = recommender.state_dict(), other.state_dict()
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    assert (recommender.features(TEXT) == other.features(TEXT)).all()


def test_a_checkpoint_of_another_tuning_is_refused(tmp_path: Path) -> None:
    own, config = world(), replace(CONFIG, steps=10)
    run(own, tmp_path, config)
    tunable, recommender, _ = begun(own, config)
    with pytest.raises(ValueError, match="is of another tuning"):
        stage_two.tune(
            {TEXT: tunable},
            own.items,
            own.choices,
            recommender,
            config=config,
            folder=tmp_path,
            identity="other",
        )
    (tmp_path / stage_two.CHECKPOINT).write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"is damaged .*: delete it"):
        run(own, tmp_path, config)


def test_two_modalities_are_tuned_at_once_and_absences_kept(tmp_path: Path) -> None:
    own, config = world(), replace(CONFIG, steps=10)
    half = {name: one for name, one in own.numbers.items() if int(name[1:]) % 2}
    tunables = {
        TEXT: LinearTunable(own.numbers),
        Modality.IMAGE: LinearTunable(half, Modality.IMAGE),
    }
    frozen = {
        one: aligned(tunable.embedder.embed(own.items)[0], own.choices.item_ids)
        for one, tunable in tunables.items()
    }
    recommender = stage_one.fit(own.choices, frozen, config).recommender
    for tunable in tunables.values():
        tunable.adapt(config)
    tuned = stage_two.tune(
        tunables, own.items, own.choices, recommender, config=config, folder=tmp_path
    )
    assert len(tuned.losses) == 10
    image = recommender.features(Modality.IMAGE).numpy()
    assert not image[::2].any()
    assert (image[1::2] != frozen[Modality.IMAGE].vectors_ID[1::2]).any(axis=1).all()
    assert all(tunable.module.up.abs().sum() > 0 for tunable in tunables.values())


def test_what_does_not_fit_together_is_said(tmp_path: Path) -> None:
    own = world()
    tunable, recommender, _ = begun(own, replace(CONFIG, epochs=1))

    def tune(tunables: object, items: object) -> None:
        stage_two.tune(
            tunables,  # type: ignore[arg-type]
            items,  # type: ignore[arg-type]
            own.choices,
            recommender,
            config=CONFIG,
            folder=tmp_path,
        )

    with pytest.raises(ValueError, match="no encoder is given"):
        tune({}, own.items)
    with pytest.raises(ValueError, match="no features of audio, only of text"):
        tune({Modality.AUDIO: tunable}, own.items)
    with pytest.raises(ValueError, match="in their order"):
        tune({TEXT: tunable}, own.items[::-1])
