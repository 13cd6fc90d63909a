"""Pairs of a chosen item and one that was never touched in, rankers trained on a few of them out.

A pair is asked at a moment that the ranker may learn from, with the history of then and a
retriever that knows nothing later than the graph does. Every draw of a few pairs trains the
calibrated prior to its optimum, and the ranker for some steps.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.few_shot import KS, Fit, few_shot
from evaluation.judgements import Judgement
from evaluation.last_choice import touched
from evaluation.negatives import Negatives
from evaluation.protocols import Outcome, Protocol, list_facts
from evaluation.sampled import Score
from ranker.moments import Births, Example, Target, moments
from ranker.training import train as train_adapter
from retrieval.candidates import Query
from sommelier.evaluating.protocol_setting import Setting, scorer
from sommelier.training.train import trained
from sommelier.writing.prompt_texts import preferences, summaries

FEW_STEPS = 40  # of training on a handful of rows; more would only learn them by heart
MAX_PAIRS = 5000


def shots(setting: Setting, protocol: Protocol) -> Outcome:
    """AUC after training on few rows, over several draws."""
    lists = setting.lists(protocol)
    with setting.watch.task("training pairs"):
        pool = _pairs(setting)
    total = len(KS)
    with (
        tempfile.TemporaryDirectory(prefix="sommelier-shots-") as folder,
        setting.watch.task(f"{protocol.name}, trainings", total=total) as advance,
    ):
        found = few_shot(
            _fit(setting, pool, Path(folder)),
            lists,
            popularity=setting.popularity,
            pool_size=len(pool),
            seed=setting.config.seed,
            on_progress=lambda done, total: advance(done, total),
        )
    parts = {
        f"K = {k}": {name: {"auc": shots} for name, shots in systems.items()}
        for k, systems in found.items()
    }
    left_out = [k for k in KS if k not in found]
    return setting.outcome(
        protocol,
        parts,
        lists=list_facts(lists, len(setting.judged.judgements)),
        num_training_pairs=len(pool),
        ks_without_enough_pairs=left_out,
        steps=_few_steps(setting),
    )


def _few_steps(setting: Setting) -> int:
    return min(FEW_STEPS, setting.workspace.settings.ranker.training.fusion_steps)


def _pairs(setting: Setting) -> list[Example]:
    """A chosen item and one that the user never touched, at each moment that the ranker may see."""
    workspace, line = setting.workspace, setting.workspace.timeline
    settings, births = workspace.settings, Births(workspace.created_at)
    behaviors = settings.target.behaviors
    asked = moments(
        workspace.catalog.interactions,
        target=Target(
            behaviors=None if behaviors is None else frozenset(behaviors),
            min_weight=settings.target.min_weight,
        ),
        start=line.graph_until,
        cut=line.cut,
        limit=MAX_PAIRS,
        seed=setting.config.seed,
        min_history=1,
    )
    met = touched(
        workspace.catalog.interactions,
        [Judgement(user_id=one.user_id, as_of=one.as_of, item_ids=one.chosen) for one in asked],
    )
    negatives = Negatives(workspace.item_ids, seed=setting.config.seed + 1)
    retriever = workspace.retriever(trained(workspace).pooling, until=line.graph_until)
    moments_asked = [(one.user_id, one.as_of) for one in asked]
    histories = workspace.histories(moments_asked)
    tell = preferences(workspace, setting.serving.generation.texts)
    told = [None] * len(asked) if tell is None else tell(moments_asked)
    pairs = []
    for one, history, preference in zip(asked, histories, told, strict=True):
        query = Query(user_id=one.user_id, history=history, as_of=one.as_of, preference=preference)
        hidden = met[one.user_id] | births.after(one.as_of)
        drawn = negatives.draw(f"{one.user_id} {one.as_of.isoformat()}", touched=hidden, num=1)
        chosen = min(one.chosen)
        candidates = retriever.score(query, [chosen, *drawn])
        if len(candidates) == 2:
            pairs.append(
                Example(
                    query=query,
                    candidates=tuple(candidates),
                    chosen=frozenset({chosen}),
                    weights=retriever.weights,
                )
            )
    return pairs


def _fit(setting: Setting, pool: Sequence[Example], folder: Path) -> Fit:
    """Trains prior and ranker on a few pairs of the pool."""
    workspace, steps = setting.workspace, _few_steps(setting)
    ready, config = trained(workspace), workspace.settings.ranker
    texts = setting.serving.generation.texts

    def fit(pairs: Sequence[int], seed: int) -> Score:
        training = replace(
            config.training,
            text_steps=min(steps, config.training.text_steps),
            single_modality_steps=0,
            fusion_steps=steps,
            preference_steps=0,
            batch_size=min(config.training.batch_size, len(pairs)),
            num_negatives=1,
            seed=seed,
        )
        adapter = train_adapter(
            [pool[n] for n in pairs],
            items=workspace.item_vectors,
            titles=workspace.titles,
            summaries=summaries(workspace, texts),
            texts=texts,
            llm=ready.llm,
            config=replace(config, training=training),
            folder=folder,
        )
        return scorer(setting.serving.with_adapter(adapter))

    return fit
