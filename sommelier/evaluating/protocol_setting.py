"""A workspace in, what every protocol asks of it out: users, their last choices, lists, scores.

Three systems answer together: the reranked route, the retriever's findings calibrated, and the
retriever's own score; popularity at the cut always stands beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.history import seen_before
from evaluation.judgements import Judgement
from evaluation.last_choice import last_choices, touched
from evaluation.negatives import Negatives
from evaluation.order import LEAKS
from evaluation.protocols import Outcome, Protocol, intervals
from evaluation.sampled import Score, ShortList, Values, scored_lists, short_lists
from evaluation.significance import Interval
from ranker.loaded import LoadedGeneration
from retrieval.candidates import Query
from retrieval.popularity import popularity
from sommelier.evaluating.asked import AskedQueries
from sommelier.evaluating.evaluate import judged, read_preferences
from sommelier.serve import loaded
from sommelier.watch import Watch
from sommelier.workspace import Workspace

Intervals = dict[str, dict[str, Interval]]


class Setting:
    """What all protocols ask of one workspace: a loaded generation, judged users, popularity."""

    def __init__(self, workspace: Workspace, watch: Watch) -> None:
        self.workspace, self.watch = workspace, watch
        self.serving = loaded(workspace, watch=watch, online=False)
        self.judged = judged(workspace)
        self.config = workspace.settings.evaluation
        self.popularity = dict(
            popularity(workspace.catalog.interactions, until=workspace.timeline.cut)
        )

    def last(self) -> tuple[tuple[Judgement, ...], list[Query]]:
        """Each judged user's last choice, and the query just before it."""
        asked = last_choices(self.workspace.timed_interactions, self.judged.judgements)
        return asked, self.queries(asked)

    def queries(self, asked: Sequence[Judgement]) -> list[Query]:
        """Each user with the history of their moment; what they had met by then is hidden."""
        seen = seen_before(self.workspace.timed_interactions, asked)
        preferences = read_preferences(self.workspace, self.serving)
        return list(
            AskedQueries(
                asked, histories=self.workspace.histories, seen=seen, preferences=preferences
            )
        )

    def lists(self, protocol: Protocol, *, by_popularity: bool = False) -> list[ShortList]:
        """The short lists of a sampled protocol, of all users who have enough negatives."""
        asked, queries = self.last()
        return short_lists(
            asked,
            queries,
            negatives=Negatives(
                self.workspace.item_ids,
                popularity=self.popularity if by_popularity else None,
                seed=self.config.seed,
            ),
            touched=touched(self.workspace.catalog.interactions, asked),
            num_negatives=protocol.num_negatives,
        )

    def scored(self, name: str, lists: Sequence[ShortList]) -> dict[str, Values]:
        """Every system's scores of the lists."""
        with self.watch.task(name, total=len(lists)) as advance:
            return scored_lists(
                lists, scorer(self.serving), popularity=self.popularity, on_progress=advance
            )

    def outcome(self, protocol: Protocol, parts: Any, **facts: object) -> Outcome:
        """The parts under their protocol's name, with what a reader must know."""
        split = self.workspace.settings.time.split
        shared = {
            "generation_id": self.serving.info.generation_id,
            "catalog_sha256": self.workspace.catalog.fingerprint,
            "cut": self.workspace.timeline.cut.isoformat(),
            "split": split,
            "split_leaks": LEAKS[split],
            "seed": self.config.seed,
        }
        return Outcome(protocol=protocol, parts=parts, facts={**shared, **facts})

    def intervals(self, measures: Mapping[str, Mapping[str, Values]]) -> Intervals:
        """System -> measure -> mean and interval, as `[evaluation]` sets them."""
        config = self.config
        return intervals(measures, samples=config.samples, seed=config.seed, level=config.level)


def scorer(serving: LoadedGeneration) -> Score:
    """The route's three scores of any items; NaN where an item is not known to the generation."""

    def score(query: Query, item_ids: Sequence[str]) -> dict[str, list[float]]:
        ranking = serving.rerank(query, serving.score(query, item_ids))
        of_item = {one.item_id: one for one in ranking.items if one.rank}
        ranked = [of_item.get(item_id) for item_id in item_ids]
        return {
            "rerank": [one.score if one else np.nan for one in ranked],
            "calibrated": [ranking.prior(one) if one else np.nan for one in ranked],
            "retrieval": [one.retrieval_score if one else np.nan for one in ranked],
        }

    return score
