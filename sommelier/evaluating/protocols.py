"""A published generation and a protocol's name in, its table and `protocols/<name>.json` out.

Four systems answer together: the reranked route, the retriever's findings calibrated, the
retriever's own score, and popularity at the cut, which no protocol leaves out.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from evaluation import protocols
from evaluation.few_shot import Shots
from evaluation.protocols import Outcome, Protocol
from evaluation.runs import Run, measure, popularity_run
from evaluation.significance import Interval
from feature_repo.atomic import replace_text
from ranker.ranking import RankedItem, Ranking
from sommelier.evaluating.protocol_setting import Setting
from sommelier.evaluating.shots import shots
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace

FULL_KS = (10, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a protocol found, and where it was written."""

    outcome: Outcome
    path: Path
    summary: Summary


def run(workspace: Workspace, name: str, *, watch: Watch) -> Measured:
    """Measure the current generation by a protocol and write what it found.

    Raises:
        ValueError: no such protocol, one that the catalog or its split does not suit, nothing was
            published, or nobody can be judged.
    """
    protocol = protocols.named(name)
    if name == protocols.MMREC and workspace.settings.time.split != "given":
        raise ValueError(
            f"{name} is measured on the catalog's own split, and time.split is "
            f'"{workspace.settings.time.split}": set it to "given", in a workspace of its own, and '
            "train, index and publish there"
        )
    setting = Setting(workspace, watch)
    match name:
        case protocols.MSR:
            outcome = _msr(setting, protocol)
        case protocols.TMF:
            outcome = _tmf(setting, protocol)
        case protocols.ATFLREC:
            outcome = shots(setting, protocol)
        case _:
            outcome = _full(setting, protocol)
    path = workspace.settings.paths.report / "protocols" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = json.dumps(outcome.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(path, plain + "\n")
    return Measured(outcome=outcome, path=path, summary=_summary(outcome, path))


def _msr(setting: Setting, protocol: Protocol) -> Outcome:
    parts, facts = {}, {}
    for part in ("uniform", "popularity"):
        lists = setting.lists(protocol, by_popularity=part == "popularity")
        scores = setting.scored(f"{protocol.name}, {part} negatives", lists)
        parts[part] = setting.intervals(
            {name: protocols.msr_measures(each) for name, each in scores.items()}
        )
        facts[part] = protocols.list_facts(lists, len(setting.judged.judgements))
    return setting.outcome(protocol, parts, lists=facts)


def _tmf(setting: Setting, protocol: Protocol) -> Outcome:
    lists = setting.lists(protocol)
    scores = setting.scored(protocol.name, lists)
    measures = {name: protocols.tmf_measures(each) for name, each in scores.items()}
    return setting.outcome(
        protocol,
        {"uniform": setting.intervals(measures)},
        lists=protocols.list_facts(lists, len(setting.judged.judgements)),
        **{"hr@1_of_valid": {name: protocols.of_valid(one) for name, one in measures.items()}},
    )


def _full(setting: Setting, protocol: Protocol) -> Outcome:
    """Everything ranked: retrieval's list, the same reranked, and popularity."""
    judgements = setting.judged.judgements
    queries, serving, config = setting.queries(judgements), setting.serving, setting.config
    rankings: dict[str, dict[str, list[str]]] = {"rerank": {}, "calibrated": {}, "retrieval": {}}
    with setting.watch.task(protocol.name, total=len(queries)) as advance:
        for start in range(0, len(queries), config.batch_size):
            batch = queries[start : start + config.batch_size]
            found = serving.retrieve_many(batch, limit=config.num_candidates)
            for done, (query, candidates) in enumerate(zip(batch, found, strict=True), start + 1):
                ranking = serving.rerank(query, candidates)
                for name, items in (
                    ("rerank", ranking.items),
                    ("calibrated", _by_prior(ranking)),
                    ("retrieval", candidates),
                ):
                    rankings[name][query.user_id] = [one.item_id for one in items]
                advance(done)
    runs = {name: Run(name=name, rankings=each) for name, each in rankings.items()}
    seen = {query.user_id: query.exclude for query in queries}
    order = sorted(setting.popularity, key=lambda one: (-setting.popularity[one], one))
    runs["popularity"] = popularity_run(order, judgements, seen, limit=config.num_candidates)
    wanted = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in FULL_KS]
    measures = {}
    for name, each in runs.items():
        values = measure(each, judgements, ks=FULL_KS, recall_ks=FULL_KS).values
        measures[name] = {key: values[key] for key in wanted}
    return setting.outcome(
        protocol, {"full ranking": setting.intervals(measures)}, **setting.judged.counts
    )


def _by_prior(ranking: Ranking) -> list[RankedItem]:
    """The same items as retrieval's findings alone would have them, calibrated."""
    return sorted(ranking.items, key=lambda one: (-ranking.prior(one), one.item_id))


def _summary(outcome: Outcome, path: Path) -> Summary:
    measures = list(next(iter(next(iter(outcome.parts.values())).values())))
    rows = tuple(
        (part, system, *(_cell(found[name]) for name in measures))
        for part, systems in outcome.parts.items()
        for system, found in systems.items()
    )
    return Summary(
        title=f"{outcome.protocol.name}, {outcome.protocol.source}",
        header=("part", "system", *measures),
        rows=rows,
        notes=(*outcome.protocol.remarks, str(outcome.facts["split_leaks"]), str(path)),
    )


def _cell(value: Interval | Shots) -> str:
    if isinstance(value, Shots):
        return f"{value.mean:.4f} ± {value.spread:.4f}"
    return f"{value.mean:.4f} ({value.low:.4f} to {value.high:.4f})"
