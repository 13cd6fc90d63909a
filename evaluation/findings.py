"""What came of every route in, the report out."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np

from evaluation.comparison import ablations_of, deltas, holm_over, intervals
from evaluation.exact import index_loss, recall_curve
from evaluation.example import Example
from evaluation.judgements import Judgement
from evaluation.ledger import Holdings, Ledger, Positive, ledger, trace
from evaluation.movement import movement
from evaluation.protocol import EvaluationConfig
from evaluation.report import Ablation, Report, ScoreQuality
from evaluation.routes import Traveled
from evaluation.runs import Run, Scores, ceiling_run, measure, popularity_run
from evaluation.scored import calibration, grouped_auc, scored
from evaluation.slices import ItemFacts, Slice, UserFacts, slices
from evaluation.whole_list import WholeList, whole_list

LIBRARIES = ("sommelier", "numpy", "torch", "transformers", "peft", "faiss-cpu", "feast", "duckdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What was known when the users were asked."""

    popularity: Sequence[str]
    """The items with any event before the cut, most popular first. An item that is not in it is
    cold."""
    seen: Mapping[str, frozenset[str]]
    """What each judged user met before being asked (`evaluation.history.seen_before`);
    popularity leaves it out, and its size is the length of the user's history."""
    num_fans: Mapping[str, int] | None = None
    """Item -> distinct users before the cut; None measures no novelty, coverage or inequality."""
    num_users_before: int = 0
    """Distinct users before the cut."""
    items: ItemFacts | None = None
    """For slices; None knows of cold items and popularity alone."""
    users: UserFacts | None = None
    """For slices; None knows of histories' lengths alone."""
    holdings: Holdings | None = None
    """What the answering generation holds; None keeps no ledger."""
    index: Mapping[str, Any] | None = None
    """Of the index that answers: `kind`, `effort` and the measured `curve`."""

    @property
    def item_facts(self) -> ItemFacts:
        return self.items or ItemFacts.of(popularity=self.popularity)

    @property
    def user_facts(self) -> UserFacts:
        lengths = {user_id: len(met) for user_id, met in self.seen.items()}
        return self.users or UserFacts(history_lengths=lengths)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All routes, measured when they are first asked for."""

    judgements: tuple[Judgement, ...]
    """Everybody's."""
    measured: tuple[Judgement, ...]
    """Of those whose candidates were reranked; everybody's where nobody's were."""
    full: Traveled
    ablated: Mapping[str, Traveled]
    background: Background
    config: EvaluationConfig

    def report(
        self, counts: Mapping[str, int], manifest: Mapping[str, Any], example: Example | None
    ) -> Report:
        """All of it, with what the caller knows besides."""
        means = intervals(self._scores | {"ceiling": self._ceiling(self.measured)}, self.config)
        everybody = None if self._is_one_stage else self._everybody()
        found = (everybody or means)["retrieval_order"]
        report = Report(
            headline=self.config.headline,
            routes=means,
            everybody=everybody,
            candidate_recall={f"recall@{k}": found[f"recall@{k}"] for k in self.config.recall_ks},
            index_loss=index_loss(self.full, self.judgements, self.config),
            **self._changes(),
            ablations=self._ablations(),
            slices=self._slices(),
            curve=recall_curve(
                self.full.retrieved,
                self.runs["popularity"],
                self.full.exact,
                self.judgements,
                limit=self.config.num_candidates,
                num_items=self._num_items,
            ),
            ledger=self._ledger(self.measured, self.positives, self._final),
            retrieval_ledger=self._retrieval_ledger(),
            whole_lists=self._whole_lists(),
            index=dict(self.background.index or {}),
            counts=self._counts() | dict(counts),
            config=asdict(self.config),
            manifest=self._manifest() | dict(manifest),
            example=example,
        )
        return holm_over(report)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Route -> run; `calibrated` and `rerank` only where anybody's were reranked."""
        popular = popularity_run(
            self.background.popularity,
            self.judgements,
            self.background.seen,
            limit=self.config.num_candidates,
        )
        runs = {"popularity": popular, "retrieval_order": self.full.retrieved}
        if self.full.reranked.rankings:
            runs |= {"calibrated": self.full.calibrated, "rerank": self.full.reranked}
        return runs

    @cached_property
    def positives(self) -> tuple[Positive, ...]:
        """What became of each chosen item of the measured users; empty without exact ranks."""
        return self._traced(self.measured, self.full.final)

    @property
    def _final(self) -> str:
        return "rerank" if "rerank" in self.runs else "retrieval_order"

    @property
    def _is_one_stage(self) -> bool:
        """Whether both stages are measured on the same users."""
        return len(self.measured) == len(self.judgements)

    @property
    def _num_items(self) -> int:
        return len(self.background.holdings.item_ids) if self.background.holdings else 0

    @cached_property
    def _scores(self) -> dict[str, Scores]:
        return {name: self._measure(run, self.measured) for name, run in self.runs.items()}

    def _measure(self, run: Run, judgements: Sequence[Judgement]) -> Scores:
        return measure(run, judgements, ks=self.config.ks, recall_ks=self.config.recall_ks)

    def _ceiling(self, judgements: Sequence[Judgement]) -> Scores:
        return self._measure(ceiling_run(self.full.retrieved, judgements), judgements)

    def _everybody(self) -> dict[str, dict[str, Any]]:
        scores = {
            name: self._measure(self.runs[name], self.judgements)
            for name in ("popularity", "retrieval_order")
        }
        return intervals(scores | {"ceiling": self._ceiling(self.judgements)}, self.config)

    def _changes(self) -> dict[str, Any]:
        """What there is to say of reranking."""
        if self._final != "rerank":
            return {"delta": {}, "llm_delta": {}, "movement": None, "scores": {}}
        before, calibrated, after = (
            self._scores[name] for name in ("retrieval_order", "calibrated", "rerank")
        )
        headline = self.config.headline
        return {
            "delta": deltas(before, after, self.config),
            "llm_delta": deltas(calibrated, after, self.config),
            "movement": movement(
                self.full.retrieved,
                self.full.reranked,
                self.measured,
                after.values[headline] - before.values[headline],
            ),
            "scores": {name: self._quality(self.runs[name]) for name in ("calibrated", "rerank")},
        }

    def _quality(self, run: Run) -> ScoreQuality:
        """Of scores read as log odds."""
        found = scored(run, self.measured)
        has_both = 0 < found.is_chosen_N.sum() < len(found.is_chosen_N)
        chances_N = np.exp(-np.logaddexp(0.0, -found.scores_N))  # the sigmoid, without overflow
        return ScoreQuality(
            auc=grouped_auc(found).mean if has_both else None,
            calibration=calibration(chances_N, found.is_chosen_N) if len(chances_N) else None,
        )

    def _ablations(self) -> tuple[Ablation, ...]:
        return ablations_of(
            {
                name: (
                    self._measure(one.retrieved, self.measured),
                    self._measure(one.final, self.measured),
                )
                for name, one in self.ablated.items()
            },
            full=(self._scores["retrieval_order"], self._scores[self._final]),
            config=self.config,
        )

    def _slices(self) -> tuple[Slice, ...]:
        return slices(
            self.full.retrieved,
            self.full.final,
            self.measured,
            items=self.background.item_facts,
            users=self.background.user_facts,
            k=self.config.headline_k,
            samples=self.config.samples,
            seed=self.config.seed,
            level=self.config.level,
        )

    def _traced(self, judgements: Sequence[Judgement], final: Run) -> tuple[Positive, ...]:
        if self.full.exact is None or self.background.holdings is None:
            return ()
        return trace(
            judgements,
            retrieved=self.full.retrieved,
            final=final,
            exact=self.full.exact,
            holdings=self.background.holdings,
            limit=self.config.num_candidates,
            k=self.config.headline_k,
        )

    def _ledger(
        self, judgements: Sequence[Judgement], positives: Sequence[Positive], final: str
    ) -> Ledger | None:
        if not positives:
            return None
        return ledger(
            positives,
            judgements,
            items=self.background.item_facts,
            users=self.background.user_facts,
            final=final,
            limit=self.config.num_candidates,
            k=self.config.headline_k,
        )

    def _retrieval_ledger(self) -> Ledger | None:
        if self._is_one_stage:
            return None
        positives = self._traced(self.judgements, self.full.retrieved)
        return self._ledger(self.judgements, positives, "retrieval_order")

    def _whole_lists(self) -> dict[str, WholeList]:
        held, fans = self.background.holdings, self.background.num_fans
        if held is None or fans is None:
            return {}
        return {
            name: whole_list(
                run,
                self.measured,
                catalog=held.item_ids,
                num_fans=fans,
                num_users=self.background.num_users_before,
                k=self.config.headline_k,
                samples=self.config.samples,
                seed=self.config.seed,
                level=self.config.level,
            )
            for name, run in self.runs.items()
        }

    def _counts(self) -> dict[str, int]:
        lists = self.full.retrieved.rankings
        chosen = [one.item_ids for one in self.judgements]
        return {
            "num_users_judged": len(self.judgements),
            "num_users_reranked": len(self.full.reranked.rankings),
            "num_items_judged": sum(map(len, chosen)),
            "num_distinct_items_judged": len(frozenset().union(*chosen)),
            "num_warm_items": len(self.background.popularity),
            "num_candidates": self.full.num_candidates,
            "num_users_without_candidates": sum(not ranked for ranked in lists.values()),
            "num_seen_candidates": sum(
                len(self.background.seen.get(user_id, frozenset()).intersection(ranked))
                for user_id, ranked in lists.items()
            ),
        }

    def _manifest(self) -> dict[str, Any]:
        full = self.full
        durations = {
            "retrieve_s": full.retrieve_s,
            "exact_s": full.exact_s,
            "rerank_s": full.rerank_s,
        }
        for name, one in self.ablated.items():
            durations[f"without_{name}_s"] = one.retrieve_s + one.rerank_s
        return {
            "generation_id": ", ".join(sorted(full.generation_ids)),
            "cut": min(judgement.as_of for judgement in self.judgements).isoformat(),
            "durations": {name: round(seconds, 3) for name, seconds in durations.items()},
            "versions": {"python": platform.python_version(), **_versions()},
        }


def _versions() -> dict[str, str]:
    """Of the libraries that are installed here; nothing is imported for it."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
