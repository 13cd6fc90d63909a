"""Item vectors and interactions before the cut in, a trained adapter of the ranker out.

The network over histories, the blocks' weights, the LLM, the examples and the adapter lie in the
workspace's models folder, each made once for its inputs; training itself goes on where it was cut
off. The newest moments are held out: they say when to stop, and what scores are worth.

Launched as several processes (`accelerate launch` or `torchrun`), the first one makes all that the
others then find, and they train together.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from embedders.checkpoint import resolve
from embedders.item_text import item_text
from embedders.texts import TextSource
from ranker import embedded_llm
from ranker.adapter_facts import read_facts
from ranker.curriculum import Stage, plan
from ranker.examples import Example, Target, collect, split
from ranker.prompts import frame
from ranker.team import Team
from ranker.trainer import OnProgress
from ranker.training import train as train_adapter
from retrieval.fusion import Fusion
from retrieval.pooled import PoolingConfig
from sommelier.state import digest
from sommelier.training.sequence import train_sequence
from sommelier.training.tune import TRAIN_FIRST, inputs_key, tune, tune_fusion, tuned, tuned_fusion
from sommelier.watch import Advance, Summary, Unwatched, Watch
from sommelier.workspace import Workspace, existing
from sommelier.writing.prompt_texts import learned_words, preferences, sources, summaries, texts_key

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the later stages take from training."""

    llm: str
    """A folder or a hub id."""
    adapter: Path
    pooling: PoolingConfig
    fusion: Fusion | None
    """None where candidates are ordered by the weighted sum of cosines."""


def trained(workspace: Workspace) -> Trained:
    """What the last training made.

    Raises:
        ValueError: nothing was trained, or it was removed.
    """
    facts = workspace.state.read("train")
    if not facts:
        raise ValueError(
            f"no ranker is trained in {workspace.settings.paths.models}: {TRAIN_FIRST}"
        )
    models = workspace.settings.paths.models
    llm = models / facts["llm"]
    return Trained(
        llm=str(llm) if llm.is_dir() else facts["llm"],
        adapter=existing(models / facts["adapter"], repair=TRAIN_FIRST),
        pooling=tuned(workspace),
        fusion=tuned_fusion(workspace),
    )


def train(workspace: Workspace, *, watch: Watch) -> Summary:
    """Train what is not trained yet.

    Raises:
        ValueError: nothing was embedded, prompts are to hold texts that nobody wrote, or no choice
            lies before the cut.
    """
    settings = workspace.settings
    models = settings.paths.models
    team = Team.found(settings.ranker.llm.device)
    watch = watch if team.is_main else Unwatched()
    with team.main_first():
        train_sequence(workspace, watch=watch)
        pooling = tune(workspace, watch=watch)
        fusion = tune_fusion(workspace, pooling, watch=watch)
        key = training_key(workspace)
        facts = workspace.state.read("train")
        if facts.get("key") == key and (models / facts["adapter"]).exists():
            return _summary(facts, pooling, is_new=False)
        texts = sources(workspace)
        llm = _llm(workspace, watch)
        examples = _examples(workspace, pooling, fusion, texts, watch=watch)
    learned, held_out = split(examples, settings.ranker.training.validation_share)
    with watch.task("training") as advance:
        adapter = train_adapter(
            learned,
            validation=held_out,
            items=workspace.item_vectors,
            titles=workspace.titles,
            summaries=summaries(workspace, texts),
            texts=texts,
            llm=llm,
            config=settings.ranker,
            folder=models / "adapters",
            runs=models / "runs",
            on_progress=_told_of(advance, plan(settings.ranker)),
        )
    facts = {
        "key": key,
        "llm": _below(models, llm),
        "adapter": _below(models, str(adapter)),
        "num_examples": len(learned),
        "num_validation": len(held_out),
    }
    if team.is_main:
        workspace.state.write("train", facts)
    return _summary(
        facts, pooling, is_new=True, calibrator=read_facts(adapter).training["calibrator"]
    )


def training_key(workspace: Workspace) -> str:
    """Changes when training has to be run again."""
    pooling, fusion = tuned(workspace), tuned_fusion(workspace)
    ranker = workspace.settings.ranker
    # A folder's content may change under its name; a hub id is pinned by its revision.
    is_folder = ranker.llm.model != EMBEDDED and Path(ranker.llm.model).is_dir()
    llm = resolve(ranker.llm.model).revision if is_folder else ""
    texts = sources(workspace)
    told = [texts_key(workspace, texts)] if texts else []
    return digest(inputs_key(workspace), pooling, fusion, ranker, llm, *told)


def _examples(
    workspace: Workspace,
    pooling: PoolingConfig,
    fusion: Fusion | None,
    texts: Sequence[TextSource],
    *,
    watch: Watch,
) -> Sequence[Example]:
    """All moments before the cut with what retrieval finds, on disk; those of other inputs go."""
    settings, line = workspace.settings, workspace.timeline
    training, by_behavior = settings.ranker.training, settings.ranker.prompt.asks_behavior
    told = preferences(workspace, texts)
    name = digest(
        inputs_key(workspace),
        pooling,
        fusion,
        (training.max_examples, training.num_candidates, training.duplicate_cosine, training.seed),
        by_behavior,
        *([] if told is None else [texts_key(workspace, texts)]),
    )
    folder = settings.paths.models / "examples"
    for other in folder.glob("*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    with watch.task("training examples") as advance:
        return collect(
            workspace.catalog.interactions,
            target=Target(
                behaviors=_choices(settings.target.behaviors),
                min_weight=settings.target.min_weight,
            ),
            start=line.graph_until,
            cut=line.cut,
            histories=workspace.histories,
            retriever=workspace.retriever(pooling, until=line.graph_until, fusion=fusion),
            config=training,
            preferences=told,
            created_at=workspace.created_at,
            by_behavior=by_behavior,
            folder=folder / name,
            on_progress=lambda done, total: advance(done, total),
        )


def _told_of(advance: Advance, stages: Sequence[Stage]) -> OnProgress:
    """One bar over all levels, so that it knows when the last one ends."""
    total = sum(stage.num_steps for stage in stages)
    before = {
        stage.name: sum(one.num_steps for one in stages[:place])
        for place, stage in enumerate(stages)
    }

    def on_progress(stage: str, step: int, num_steps: int, loss: float) -> None:
        note = f"{stage} {step} of {num_steps}, loss {loss:.3f}"
        advance(before[stage] + step, total, note)

    return on_progress


def _llm(workspace: Workspace, watch: Watch) -> str:
    """The LLM's name, or the folder of the one that is made of the catalog's own words."""
    config, line = workspace.settings.ranker.llm, workspace.timeline
    if config.model != EMBEDDED:
        return config.model
    events = workspace.catalog.interactions
    # Later events may not even teach the LLM that a behavior exists.
    before = events.filter(pc.less(events["timestamp"], line.cut))
    with watch.task("embedded LLM") as advance:
        folder = embedded_llm.make(
            [*_texts(workspace), *learned_words(workspace, sources(workspace))],
            behaviors=sorted(pc.unique(before["behavior"]).to_pylist()),
            folder=workspace.settings.paths.models / "llm",
            config=config.embedded,
            seed=workspace.settings.ranker.training.seed,
            phrases=frame(workspace.settings.ranker.prompt),
            on_progress=lambda stage, step, steps: advance(step, steps, stage),
        )
    return str(folder)


def _texts(workspace: Workspace) -> Iterator[str]:
    """What is written about the items that were there before the cut."""
    known = workspace.known_items
    items = (item for item in workspace.catalog.items() if item.item_id in known)
    return filter(None, map(item_text, items))


def _choices(behaviors: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if behaviors is None else frozenset(behaviors)


def _below(models: Path, name: str) -> str:
    """A folder within the workspace by its place there, so that the workspace may be moved."""
    path = Path(name)
    return path.relative_to(models).as_posix() if path.is_relative_to(models) else name


def _summary(
    facts: dict[str, object],
    pooling: PoolingConfig,
    *,
    is_new: bool,
    calibrator: object = None,
) -> Summary:
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in pooling.weights.items())
    held_out = facts.get("num_validation", 0)
    uncalibrated = f"scores are not calibrated: {held_out} held-out moments are too few"
    return Summary(
        title="Trained" if is_new else "Trained before: nothing is new",
        header=("what", ""),
        rows=(
            ("examples", f"{facts['num_examples']:,}"),
            ("held out", f"{held_out:,}"),
            ("weights in retrieval", weights or "all 1"),
            ("LLM", str(facts["llm"])),
            ("adapter", str(facts["adapter"])),
        ),
        notes=(uncalibrated,) if isinstance(calibrator, str) else (),
        is_new=is_new,
    )
