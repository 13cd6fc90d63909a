"""Encoders, items and choices in; adapters, and a file that says what they were made of, out.

Both stages in order, and what the tuned features are worth to the recommender, measured on the
users' last choices before and after. The folder then holds

    <modality>/          the adapter, in peft's format, for `EncoderConfig.adapter`
    recommender.safetensors    users, items and projections of the end
    tuning.json          settings, data, versions, shares, memory, seconds, recalls

A finished folder is read, not made again; an unfinished one goes on where it stood.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from embedders.items import Item, Modality
from embedders.tuning import stage_one, stage_two
from embedders.tuning.base import Tunable
from embedders.tuning.choices import Choices
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features, aligned
from embedders.tuning.recommender import Recommender
from embedders.tuning.saved import Saved, put
from embedders.tuning.stage_one import Fitted, OnProgress
from embedders.tuning.validation import Validation

FILE = "tuning.json"
RECOMMENDER = "recommender.safetensors"
STAGE_ONE = "stage_one.safetensors"
PACKAGES = ("numpy", "peft", "safetensors", "torch", "transformers")
NOT_IDENTITY = ("save_every", "max_trained_share")  # the result is the same whatever they are
_OTHER = (
    "{path} is of another tuning (its data, settings or encoders differ): choose another folder, "
    "or delete it to begin anew"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What was tuned of one modality."""

    space_id: str
    """Of the encoder without its adapter."""
    num_trained: int
    num_parameters: int
    trained_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What tuning.json holds."""

    identity: str
    """16 hex digits of everything that the result depends on."""
    config: dict[str, Any]
    data: dict[str, Any]
    """Digests of who chose what and of the frozen features, tuned or not; how much there was."""
    encoders: dict[str, Encoder]
    versions: dict[str, str]
    recalls: dict[str, float]
    """At 20, of users' last choices, by full ranking. frozen: stage 1's (of `joint`, an untrained
    recommender's); tuned: by the tuned features; refit: after the re-fit, else as tuned."""
    epochs: dict[str, int]
    """Of the recommender that was kept: stage_one, refit."""
    losses: list[float]
    """Of every step of stage 2."""
    transfers: list[float]
    """The divergences' part of it, before its weight."""
    seconds: dict[str, float]
    """stage_one, stage_two, refit: by the clock."""
    memory: dict[str, float]
    """peak_mib of the process since it began, peak_device_mib of CUDA (0 without)."""


def tune(
    tunables: Mapping[Modality, Tunable],
    items: Sequence[Item],
    choices: Choices,
    *,
    config: TuningConfig,
    folder: Path,
    features: Mapping[Modality, Features] | None = None,
    on_progress: OnProgress | None = None,
) -> Tuning:
    """Run both stages.

    Args:
        tunables: The encoders to be tuned, one for each modality, not adapted yet.
        items: In the order of `choices.item_ids`.
        choices: Who chose what (`embedders.tuning.choices.read_choices`).
        config: The settings of all of it.
        folder: Of this tuning alone; made where it is not.
        features: Frozen features that are there already, and those of modalities that are not to
            be tuned; a tuned modality that is not among them is embedded first.
        on_progress: Told after each epoch and step.

    Raises:
        ValueError: what a stage or an encoder cannot do, or a folder of another tuning.
    """
    frozen = _frozen(tunables, items, choices, features or {})
    identity = _identity(tunables, choices, frozen, config)
    if (folder / FILE).is_file():
        return _finished(folder / FILE, identity)
    for tunable in tunables.values():
        tunable.adapt(config)
    recommender = stage_one.create(choices, frozen, config)
    path = folder / STAGE_ONE
    first = _stage_one(recommender, choices, config, path, identity=identity, told=on_progress)
    second = stage_two.tune(
        tunables,
        items,
        choices,
        recommender,
        config=config,
        folder=folder,
        identity=identity,
        on_progress=on_progress,
    )
    recall_tuned = Validation(choices, seed=config.seed).recall(recommender)
    last, seconds = _refit(recommender, choices, config, told=on_progress)
    made = Tuning(
        identity=identity,
        config=asdict(config),
        data=_data(choices, frozen),
        encoders={str(one): _encoder(tunables[one]) for one in sorted(tunables)},
        versions={name: metadata.version(name) for name in PACKAGES},
        recalls={"frozen": first["recall"], "tuned": recall_tuned, "refit": last.recall},
        epochs={"stage_one": first["epochs"], "refit": last.epochs},
        losses=list(second.losses),
        transfers=list(second.transfers),
        seconds={"stage_one": first["seconds"], "stage_two": second.seconds, "refit": seconds},
        memory=_memory(),
    )
    _write(folder, made, tunables, recommender)
    return made


def _frozen(
    tunables: Mapping[Modality, Tunable],
    items: Sequence[Item],
    choices: Choices,
    given: Mapping[Modality, Features],
) -> dict[Modality, Features]:
    """The given features, and those that encoders without an adapter make."""
    frozen = dict(given)
    for modality, tunable in sorted(tunables.items()):
        if modality not in frozen:
            frozen[modality] = aligned(tunable.embedder.embed(items)[0], choices.item_ids)
    return frozen


def _stage_one(
    recommender: Recommender,
    choices: Choices,
    config: TuningConfig,
    path: Path,
    *,
    identity: str,
    told: OnProgress | None,
) -> Mapping[str, Any]:
    """Train the recommender that stage 2 begins with, or find it trained; how that went."""
    if config.regime == "joint":
        recall = Validation(choices, seed=config.seed).recall(recommender)
        return {"epochs": 0, "recall": recall, "seconds": 0.0}
    if path.is_file():
        saved = Saved.read(path)
        if saved.facts["identity"] != identity:
            raise ValueError(_OTHER.format(path=path))
        put(recommender.state_dict().items(), saved.groups["recommender"], path=path)
        return saved.facts
    began = time.monotonic()
    fitted = stage_one.go_on(recommender, choices, config, epochs=config.epochs, on_progress=told)
    facts = {
        "identity": identity,
        "epochs": fitted.epochs,
        "recall": fitted.recall,
        "seconds": time.monotonic() - began,
    }
    Saved(facts=facts, groups={"recommender": recommender.state_dict()}).write(path)
    return facts


def _refit(
    recommender: Recommender,
    choices: Choices,
    config: TuningConfig,
    *,
    told: OnProgress | None,
) -> tuple[Fitted, float]:
    """The recommender after its re-fit, if any, and the seconds it took."""
    began = time.monotonic()
    fitted = stage_one.go_on(
        recommender, choices, config, epochs=config.refit_epochs, on_progress=told
    )
    return fitted, time.monotonic() - began


def _identity(
    tunables: Mapping[Modality, Tunable],
    choices: Choices,
    features: Mapping[Modality, Features],
    config: TuningConfig,
) -> str:
    settings = {name: one for name, one in asdict(config).items() if name not in NOT_IDENTITY}
    facts = {
        "config": settings,
        "choices": choices.digest,
        "features": {str(one): features[one].digest for one in sorted(features)},
        "encoders": {str(one): tunables[one].embedder.space.space_id for one in sorted(tunables)},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _data(choices: Choices, features: Mapping[Modality, Features]) -> dict[str, Any]:
    return {
        "choices": choices.digest,
        "num_users": len(choices.user_ids),
        "num_items": len(choices.item_ids),
        "num_choices": len(choices.users_E),
        "num_valid": len(choices.users_V),
        "features": {str(one): features[one].digest for one in sorted(features)},
    }


def _encoder(tunable: Tunable) -> Encoder:
    return Encoder(
        space_id=tunable.embedder.space.space_id,
        num_trained=tunable.num_trained,
        num_parameters=tunable.num_parameters,
        trained_share=tunable.num_trained / tunable.num_parameters,
    )


def _memory() -> dict[str, float]:
    """Peaks in MiB: of the process since it began, and of CUDA, 0 without."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"peak_mib": peak / 2**20, "peak_device_mib": device / 2**20}


def _write(
    folder: Path, made: Tuning, tunables: Mapping[Modality, Tunable], recommender: Recommender
) -> None:
    """Adapters first; tuning.json says that all of it is there, and only then the rest goes."""
    for modality, tunable in tunables.items():
        tunable.save(folder / modality)
    kept = Saved(
        facts={"identity": made.identity}, groups={"recommender": recommender.state_dict()}
    )
    kept.write(folder / RECOMMENDER)
    temporary = folder / f".{FILE}"
    temporary.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / FILE)
    for name in (stage_two.CHECKPOINT, STAGE_ONE):
        (folder / name).unlink(missing_ok=True)


def _finished(path: Path, identity: str) -> Tuning:
    """What a finished folder says of itself."""
    try:
        facts = json.loads(path.read_text("utf-8"))
        encoders = {name: Encoder(**one) for name, one in facts.pop("encoders").items()}
        made = Tuning(**facts, encoders=encoders)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder and tune anew") from error
    if made.identity != identity:
        raise ValueError(_OTHER.format(path=path))
    return made
