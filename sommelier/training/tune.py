"""What users chose before the cut in, how much each block counts out; fitted once for the same.

The moments lie between the end of what the graph and the network over histories were trained on,
and the cut: nothing that is weighed has seen them, and nothing that is judged later is in them.
"""

import json
from dataclasses import asdict

import numpy as np
import pyarrow.compute as pc

from evaluation.judgements import Judgement
from evaluation.split import sample, split
from feature_repo.atomic import replace_text
from ranker.examples import not_yet
from retrieval.candidates import Query
from retrieval.fusion import Fusion
from retrieval.learned_fusion import Learned, fit
from retrieval.pooled import PoolingConfig
from retrieval.rank_fusion import ByRank
from retrieval.tuning import fit_weights
from sommelier.state import digest
from sommelier.watch import Watch
from sommelier.workspace import Workspace, events_key, existing

POOLING, FUSION = "pooling.json", "fusion.json"
DEPTH = 100  # items of the weighted sum that the lists' own are joined by
TRAIN_FIRST = "run `sommelier train`"


def tune(workspace: Workspace, *, watch: Watch) -> PoolingConfig:
    """The pooling of the settings, its weights fitted on what users chose before the cut."""
    settings = workspace.settings
    path = settings.paths.models / POOLING
    key = digest(inputs_key(workspace), settings.pooling, settings.retrieval)
    if path.exists() and json.loads(path.read_text("utf-8")).get("key") == key:
        return tuned(workspace)
    pooling = settings.pooling
    if settings.retrieval.tune:
        with watch.task("the blocks' weights"):
            queries, chosen = moments(workspace)
            pooling = fit_weights(
                queries,
                chosen,
                item_vectors=workspace.item_vectors,
                user_vectors=workspace.user_vectors,
                as_of=workspace.timeline.graph_until,
                pooling=pooling,
                sequence=workspace.query_vectors,
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"key": key, "pooling": asdict(pooling)}
    replace_text(path, json.dumps(facts, indent=2, sort_keys=True) + "\n")
    # As read: a JSON number has lost nothing, and the next run must compare equal.
    return tuned(workspace)


def tuned(workspace: Workspace) -> PoolingConfig:
    """What was fitted last.

    Raises:
        ValueError: nothing was.
    """
    path = existing(workspace.settings.paths.models / POOLING, repair=TRAIN_FIRST)
    return PoolingConfig(**json.loads(path.read_text("utf-8"))["pooling"])


def tune_fusion(workspace: Workspace, pooling: PoolingConfig, *, watch: Watch) -> Fusion | None:
    """How lists become one order: as the settings say, fitted on the same moments if learned."""
    if workspace.settings.retrieval.fusion == "learned":
        path = workspace.settings.paths.models / FUSION
        key = digest(inputs_key(workspace), pooling)
        if workspace.state.read("fusion").get("key") != key or not path.exists():
            with watch.task("the fusion of lists"):
                _fitted(workspace, pooling).save(path)
            workspace.state.write("fusion", {"key": key})
    return tuned_fusion(workspace)


def tuned_fusion(workspace: Workspace) -> Fusion | None:
    """The fusion that the settings name, as it was fitted last.

    Raises:
        UnusableIndex: it is to be learned, and was not.
    """
    match workspace.settings.retrieval.fusion:
        case "weighted":
            return None
        case "rank":
            return ByRank()
        case "learned":
            return Learned.load(workspace.settings.paths.models / FUSION)


def _fitted(workspace: Workspace, pooling: PoolingConfig) -> Learned:
    queries, chosen = moments(workspace)
    until = workspace.timeline.graph_until
    retriever = workspace.retriever(pooling, until=until, fusion=ByRank())
    found = retriever.listed(queries, limit=DEPTH)
    fitted = fit(
        [listed for _, listed in found],
        [np.isin(ids, sorted(truth)) for (ids, _), truth in zip(found, chosen, strict=True)],
    )
    if fitted is None:
        raise ValueError(
            "no moment before the cut tells how lists are to be fused: set retrieval.fusion to "
            '"weighted" or "rank"'
        )
    return fitted


def inputs_key(workspace: Workspace) -> str:
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


def moments(workspace: Workspace) -> tuple[list[Query], list[frozenset[str]]]:
    """Who is asked when, before the cut, and what they then chose."""
    judgements = _judgements(workspace)
    histories = workspace.histories([(one.user_id, one.as_of) for one in judgements])
    # Items that came between a moment and the cut stay, as in evaluation those that came after
    # the cut do: without cold items among the choices, content would seem worth little.
    unborn = not_yet(workspace.created_at, workspace.timeline.cut)
    queries = [
        Query(user_id=one.user_id, history=history, as_of=one.as_of, exclude=unborn)
        for one, history in zip(judgements, histories, strict=True)
    ]
    return queries, [one.item_ids for one in judgements]


def _judgements(workspace: Workspace) -> tuple[Judgement, ...]:
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
