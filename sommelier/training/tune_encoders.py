"""A catalog and encoders in, adapters that know what users like out (PTMRec, arXiv 2502.15542).

Events before the graph's cut are learned from, and nothing later: the ranker learns from moments
whose answers the encoders may not have seen either. The frozen vectors are the store's, brought up
to date first, so that a catalog that is embedded is not embedded again. Of the recommender of
stage 1 every modality that is tuned is a part, and no other.

Each tuning has a folder of its own under the models, named by all that it depends on: the same
inputs find it finished, or go on where a killed run stood; others begin anew, and what settings
already name as an adapter stays as it is. What killed runs of other inputs left goes a week later,
with the next tuning that ends: until then their settings may come back.
"""

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from embedders.items import Item, Modality
from embedders.registry import EncoderConfig
from embedders.tuning import registry
from embedders.tuning.base import Tunable
from embedders.tuning.choices import Choices, read_choices
from embedders.tuning.features import Features, aligned
from sommelier.embedding.encoding import Consent, bring_up_to_date
from sommelier.ordered_catalog import keep_one_clock
from sommelier.set_aside import SetAside
from sommelier.settings import Settings
from sommelier.state import digest
from sommelier.watch import Advance, Summary, Watch
from sommelier.workspace import Workspace

if TYPE_CHECKING:
    from embedders.tuning.tune import Tuning

FOLDER = "tuned"  # among the models
FINISHED = "tuning.json"
TASKS = {"recommender": "stage 1: a recommender, epochs", "encoders": "stage 2: encoders, steps"}
NO_MATTER = ("save_every",)  # for the result
KEY = re.compile("[0-9a-f]{16}")
LEFT_S = 7 * 24 * 3600.0  # also longer than a run that is under way beside this one writes nothing


def tune_encoders(
    workspace: Workspace,
    *,
    watch: Watch,
    modalities: Sequence[str] | None = None,
    base: Path | None = None,
) -> Summary:
    """Tune the encoders of these modalities together, unless that is done.

    Args:
        workspace: Whose.
        watch: Whoever watches.
        modalities: By name; None takes every one whose encoder can be tuned.
        base: The folder of the settings file, for paths to be written as they go into it.

    Raises:
        ValueError: no such modality, an encoder that cannot be tuned, no events to tune by, or a
            method that does not fit.
    """
    configs = chosen(workspace.settings, modalities)
    keep_one_clock(workspace.state, workspace.settings.time, workspace.catalog.interactions)
    with watch.task("who chose what"):
        choices = _choices(workspace)
    set_aside = SetAside(workspace.store)
    tunables, features = _opened(workspace, configs, choices, set_aside=set_aside, watch=watch)
    folder = workspace.settings.paths.models / FOLDER / _key(workspace, tunables, choices, features)
    is_new = not (folder / FINISHED).exists()
    with _stages(watch) as told:
        made = registry.tune(
            tunables,
            _items(workspace, choices),
            choices,
            config=workspace.settings.tuning,
            folder=folder,
            features=features,
            on_progress=told,
        )
    summary = _summary(made, configs, folder, base=base, is_new=is_new)
    notes = []
    if set_aside.num:
        notes.append(f"{set_aside.num:,} rows were set aside. {set_aside.listed()}")
    if num_left := remove_left(folder.parent):
        notes.append(f"removed what killed runs of other inputs left a week ago: {num_left:,}")
    return replace(summary, notes=(*summary.notes, *notes))


def chosen(settings: Settings, modalities: Sequence[str] | None) -> list[EncoderConfig]:
    """The encoders to be tuned, without the adapters that they may have, by modality.

    Raises:
        ValueError: a modality that is unknown or has no encoder, or an encoder that cannot be
            tuned; none can.
    """
    by_name = {str(one.modality): one for one in settings.encoders}
    if modalities is None:
        found = [one for one in settings.encoders if registry.can_tune(one)]
        if not found:
            names = ", ".join(f"{one.modality} {one.encoder}" for one in settings.encoders)
            raise ValueError(
                f"none of the encoders ({names}) has weights that can be tuned: take minilm, "
                "sentence or auto for texts, auto for pictures and sounds"
            )
    else:
        for name in modalities:
            if name not in by_name:
                raise ValueError(
                    f"--modality {name!r}: the settings have encoders of "
                    f"{', '.join(sorted(by_name))}"
                )
        found = [by_name[name] for name in dict.fromkeys(modalities)]
    for one in found:
        registry.check(one)
    return [registry.untuned(one) for one in sorted(found, key=lambda one: str(one.modality))]


def _choices(workspace: Workspace) -> Choices:
    """Of the events before the cut, those that are choices as the target has them."""
    target, events = workspace.settings.target, workspace.catalog.interactions
    if target.behaviors is not None:
        allowed = pa.array(target.behaviors, pa.string())
        events = events.filter(pc.is_in(events["behavior"].cast(pa.string()), value_set=allowed))
    if target.min_weight is not None:
        events = events.filter(pc.greater_equal(events["weight"], target.min_weight))
    return read_choices(events, until=workspace.timeline.graph_until, item_ids=workspace.item_ids)


def _opened(
    workspace: Workspace,
    configs: Sequence[EncoderConfig],
    choices: Choices,
    *,
    set_aside: SetAside,
    watch: Watch,
) -> tuple[dict[Modality, Tunable], dict[Modality, Features]]:
    """The encoders, and their frozen vectors of all items; what the store lacks is embedded."""
    tunables: dict[Modality, Tunable] = {}
    features: dict[Modality, Features] = {}
    for config in configs:
        modality = config.modality
        with watch.task(f"{modality} encoder {config.encoder}"):
            tunables[modality] = registry.create(config, until=workspace.timeline.graph_until)
        tally = bring_up_to_date(
            workspace,
            config,
            tunables[modality].embedder,
            consent=Consent(),
            set_aside=set_aside,
            watch=watch,
        )
        if tally.space is None:
            raise ValueError(
                f"no item has {modality} content that could be embedded: leave {modality} out of "
                "--modality"
            )
        features[modality] = aligned(workspace.store.read(tally.space), choices.item_ids)
    return tunables, features


def _items(workspace: Workspace, choices: Choices) -> list[Item]:
    """The catalog's items as encoders read them, in the order of the choices."""
    summaries = workspace.summaries
    by_id = {
        one.item_id: replace(one, summary=summaries.get(one.item_id))
        for one in workspace.catalog.items()
    }
    return [by_id[item_id] for item_id in choices.item_ids]


def _key(
    workspace: Workspace,
    tunables: Mapping[Modality, Tunable],
    choices: Choices,
    features: Mapping[Modality, Features],
) -> str:
    """Changes with anything that the adapters depend on."""
    settings = asdict(workspace.settings.tuning)
    return digest(
        sorted((name, one) for name, one in settings.items() if name not in NO_MATTER),
        sorted((str(one), tunable.embedder.space.space_id) for one, tunable in tunables.items()),
        sorted((str(one), shown.digest) for one, shown in features.items()),
        choices.digest,
        workspace.timeline.graph_until,
    )


def remove_left(tuned: Path) -> int:
    """Remove the folders of tunings that were killed and not gone on from for a week; how many."""
    until = time.time() - LEFT_S
    left = [
        folder
        for folder in tuned.iterdir()
        if KEY.fullmatch(folder.name)  # no other is ours to remove
        and not (folder / FINISHED).exists()
        and max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < until
    ]
    for folder in left:
        shutil.rmtree(folder)
    return len(left)


class _Stages:
    """Shows each stage as a task of its own, as they report themselves."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._open = ExitStack()
        self._name = ""
        self._advance: Advance | None = None

    def __call__(self, name: str, done: int, total: int, loss: float) -> None:
        if name != self._name or self._advance is None:
            self.close()
            self._name = name
            task = self._watch.task(TASKS.get(name, name), total=total)
            self._advance = self._open.enter_context(task)
        self._advance(done, total, f"loss {loss:.3f}")

    def close(self) -> None:
        """End the task that is shown."""
        self._open.close()
        self._advance = None


@contextmanager
def _stages(watch: Watch) -> Iterator[_Stages]:
    stages = _Stages(watch)
    try:
        yield stages
    finally:
        stages.close()


def _summary(
    made: "Tuning",
    configs: Sequence[EncoderConfig],
    folder: Path,
    *,
    base: Path | None,
    is_new: bool,
) -> Summary:
    notes = [_verdict(made.recalls), _cost(made)]
    for config in configs:
        path = _as_written(folder / str(config.modality), base)
        notes.append(f'[[encoders]] of {config.modality}: adapter = "{path}"')
    notes.append("then `sommelier embed` fills the new space, and train and index follow")
    return Summary(
        title="Tuned" if is_new else "Nothing new to tune: these are tuned",
        header=("modality", "encoder", "method", "trained", "of parameters", "share"),
        rows=tuple(_row(config, made) for config in configs),
        notes=tuple(notes),
        is_new=is_new,
    )


def _row(config: EncoderConfig, made: "Tuning") -> tuple[str | int, ...]:
    encoder = made.encoders[str(config.modality)]
    return (
        str(config.modality),
        config.encoder,
        str(made.config["method"]),
        encoder.num_trained,
        encoder.num_parameters,
        f"{encoder.trained_share:.2%}",
    )


def _cost(made: "Tuning") -> str:
    seconds = ", ".join(
        f"{name.replace('_', ' ')} {spent:,.1f} s"
        for name, spent in made.seconds.items()
        if name != "refit" or made.config["refit_epochs"]
    )
    peak = f"peak memory {made.memory['peak_mib']:,.0f} MiB"
    if made.memory["peak_device_mib"]:
        peak += f", of the device {made.memory['peak_device_mib']:,.0f} MiB"
    return f"{seconds}; {peak}"


def _verdict(recalls: Mapping[str, float]) -> str:
    frozen, tuned = recalls["frozen"], max(recalls["tuned"], recalls["refit"])
    said = (
        "recall@20 of users' last choices before the cut, by full ranking: "
        f"{frozen:.4f} with frozen vectors, {recalls['tuned']:.4f} with tuned ones"
    )
    return said if tuned > frozen else f"{said}: no better, so think twice before using them"


def _as_written(path: Path, base: Path | None) -> str:
    """As it goes into the settings file."""
    if base is not None and path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return path.as_posix()
