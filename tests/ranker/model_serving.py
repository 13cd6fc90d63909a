"""An adapter's folder in, a `Serving` over the tiny model's world out, without any store.

`ann` is the one user who is stored. Another process makes an equal one of the same folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedders.items import Interaction
from feature_repo.base import CacheCounts
from ranker import model as models
from ranker.explaining import Explainer
from ranker.inline import InlineVectors
from ranker.llm_reranker import LlmReranker
from ranker.prefixes import PrefixCache
from ranker.ranking import Ranking
from ranker.serving import ServingInfo
from retrieval.candidates import Candidate, Query
from retrieval.retriever import Retriever
from tests.ranker import model_world

STORED = {"ann": model_world.history("item-04", "item-07", "item-11", "item-30")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServing:
    """Implements `ranker.serving.Serving`."""

    info: ServingInfo
    retriever: Retriever
    reranker: LlmReranker
    is_degraded: bool = False

    @property
    def caches(self) -> dict[str, CacheCounts]:
        return {"prefix": self.reranker.cached}

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        return STORED.get(user_id)

    def title(self, item_id: str) -> str | None:
        return model_world.TITLES.get(item_id)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        return self.retriever.retrieve(self._asked(query), limit=limit)

    def score(
        self, query: Query, item_ids: Sequence[str], *, vectors: InlineVectors | None = None
    ) -> list[Candidate]:
        assert vectors is None
        return self.retriever.score(self._asked(query), item_ids)

    def rerank(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Ranking:
        assert vectors is None
        return self.reranker.rerank(self._asked(query), candidates, num_explained=num_explained)

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Iterator[Ranking]:
        assert vectors is None
        return self.reranker.refine(self._asked(query), candidates, num_explained=num_explained)

    def _asked(self, query: Query) -> Query:
        if query.history is None:
            return replace(query, history=STORED[query.user_id])
        return query


def load(adapter: str, *, prefix_cache_bytes: int = 0) -> ModelServing:
    """The world of one adapter."""
    model = models.load(Path(adapter))
    items = model_world.items()
    retriever = model_world.retriever(items)
    return ModelServing(
        info=ServingInfo(
            generation_id="g-000007",
            model=type(model.llm.model).__name__,
            num_items=len(items),
            spaces=items.spaces,
            as_of=model_world.NOON,
        ),
        retriever=retriever,
        reranker=model_world.reranker(
            Path(adapter),
            model,
            explainer=Explainer(model, items, weights=retriever.weights_of),
            prefixes=PrefixCache(prefix_cache_bytes),
        ),
    )
