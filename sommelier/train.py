"""Item vectors and interactions before the cut in, a trained adapter of the ranker out.

The LLM, the modalities' weights and the adapter lie in the workspace's models folder. Each is made
once for its inputs; training itself resumes within a stage.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc

from embedders.item_text import item_text
from evaluation.judgements import Judgement
from evaluation.split import sample, split
from feature_repo.atomic import replace_text
from ranker import embedded_llm
from ranker.examples import Target, collect, not_yet
from ranker.training import train as train_adapter
from retrieval.candidates import Query
from retrieval.pooled import PoolingConfig
from retrieval.tuning import fit_weights
from sommelier.state import digest
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace, events_key, existing

EMBEDDED = "embedded"
POOLING = "pooling.json"
TRAIN_FIRST = "run `sommelier train`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the later stages take from training."""

    llm: str
    """A folder or a hub id."""
    adapter: Path
    pooling: PoolingConfig


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
        pooling=read_pooling(existing(models / POOLING, repair=TRAIN_FIRST)),
    )


def train(workspace: Workspace, *, watch: Watch) -> Summary:
    """Train what is not trained yet.

    Raises:
        ValueError: nothing was embedded, or no choice lies before the cut.
    """
    pooling = _tune(workspace, watch)
    key = digest(_inputs(workspace), pooling, workspace.settings.ranker)
    facts = workspace.state.read("train")
    settings, line = workspace.settings, workspace.timeline
    models = settings.paths.models
    if facts.get("key") == key and (models / facts["adapter"]).exists():
        return _summary(facts, pooling, is_new=False)
    llm = _llm(workspace, watch)
    with watch.task("training examples"):
        examples = collect(
            workspace.catalog.interactions,
            target=Target(
                behaviors=_choices(settings.target.behaviors),
                min_weight=settings.target.min_weight,
            ),
            start=line.graph_until,
            cut=line.cut,
            histories=workspace.histories,
            retriever=workspace.retriever(pooling, until=line.graph_until),
            config=settings.ranker.training,
            created_at=created_at(workspace),
        )
    with watch.task("training") as advance:
        adapter = train_adapter(
            examples,
            items=workspace.item_vectors,
            titles=workspace.titles,
            llm=llm,
            config=settings.ranker,
            folder=models / "adapters",
            on_progress=lambda stage, step, steps, loss: advance(
                step, steps, f"{stage}, loss {loss:.3f}"
            ),
        )
    facts = {
        "key": key,
        "llm": _below(models, llm),
        "adapter": _below(models, str(adapter)),
        "num_examples": len(examples),
    }
    workspace.state.write("train", facts)
    return _summary(facts, pooling, is_new=True)


def training_key(workspace: Workspace) -> str:
    """Changes when training has to be run again."""
    pooling = read_pooling(workspace.settings.paths.models / POOLING)
    return digest(_inputs(workspace), pooling, workspace.settings.ranker)


def read_pooling(path: Path) -> PoolingConfig:
    """What `train` tuned and wrote."""
    facts = json.loads(path.read_text("utf-8"))["pooling"]
    return PoolingConfig(**facts)


def _inputs(workspace: Workspace) -> str:
    """Of everything that is learned from: vectors, and the events before the cut."""
    line, settings = workspace.timeline, workspace.settings
    events = workspace.catalog.interactions
    before = events.filter(pc.less(events["timestamp"], line.cut))
    return digest(
        workspace.vectors_key,
        events_key(before),
        (line.graph_until, line.cut),
        settings.target,
        settings.store.history_limit,
    )


def _tune(workspace: Workspace, watch: Watch) -> PoolingConfig:
    """The pooling of the settings, its weights fitted on what users chose before the cut."""
    settings, line = workspace.settings, workspace.timeline
    path = settings.paths.models / POOLING
    key = digest(_inputs(workspace), settings.pooling, settings.retrieval)
    if path.exists() and json.loads(path.read_text("utf-8")).get("key") == key:
        return read_pooling(path)
    pooling = settings.pooling
    if settings.retrieval.tune:
        moments, born = _moments(workspace), created_at(workspace)
        with watch.task("the modalities' weights"):
            histories = workspace.histories([(one.user_id, one.as_of) for one in moments])
            queries = [
                Query(
                    user_id=one.user_id,
                    history=history,
                    as_of=one.as_of,
                    exclude=not_yet(born, one.as_of),
                )
                for one, history in zip(moments, histories, strict=True)
            ]
            pooling = fit_weights(
                queries,
                [one.item_ids for one in moments],
                item_vectors=workspace.item_vectors,
                user_vectors=workspace.user_vectors,
                as_of=line.graph_until,
                pooling=pooling,
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"key": key, "pooling": asdict(pooling)}
    replace_text(path, json.dumps(facts, indent=2, sort_keys=True) + "\n")
    # As read: a JSON number has lost nothing, and the next run must compare equal.
    return read_pooling(path)


def created_at(workspace: Workspace) -> dict[str, datetime]:
    """When items came to be, for those of which the catalog says so."""
    return {
        item.item_id: item.created_at
        for item in workspace.catalog.items()
        if item.created_at is not None
    }


def _moments(workspace: Workspace) -> tuple[Judgement, ...]:
    """What users chose between the graph's end and the cut, asked as evaluation will ask."""
    settings, line = workspace.settings, workspace.timeline
    whole = split(
        workspace.timed_interactions,
        cut=line.graph_until,
        until=line.cut,
        behaviors=settings.target.behaviors,
        min_weight=settings.target.min_weight,
        min_history=settings.evaluation.min_history,
        warm_up=settings.evaluation.warm_up,
        known_items=workspace.item_ids,
    )
    seed = settings.ranker.training.seed
    return sample(whole, limit=settings.retrieval.tune_users, seed=seed).judgements


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
            list(_texts(workspace)),
            behaviors=sorted(pc.unique(before["behavior"]).to_pylist()),
            folder=workspace.settings.paths.models / "llm",
            config=config.embedded,
            seed=workspace.settings.ranker.training.seed,
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


def _summary(facts: dict[str, object], pooling: PoolingConfig, *, is_new: bool) -> Summary:
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in pooling.weights.items())
    return Summary(
        title="Trained" if is_new else "Trained before: nothing is new",
        header=("what", ""),
        rows=(
            ("examples", f"{facts['num_examples']:,}"),
            ("weights in retrieval", weights or "all 1"),
            ("LLM", str(facts["llm"])),
            ("adapter", str(facts["adapter"])),
        ),
        is_new=is_new,
    )
