"""A published generation in, something that answers out: what the service and evaluation serve.

Everything is checked before the first answer: the files against the manifest, the spaces of index,
adapter and tokens against each other, every item's tokens against the store, and at last the
answers to a few questions against those that were given when it was published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from feature_repo.base import CacheCounts, Unreachable
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker import brought, probes
from ranker import model as models
from ranker.adapter_facts import AdapterError
from ranker.explaining import Explainer
from ranker.generation import Generation, GenerationError, Generations
from ranker.held import REPAIR, hold, preference_source
from ranker.inline import InlineVectors
from ranker.llm_reranker import LlmReranker
from ranker.model import RankerModel
from ranker.prefixes import PrefixCache
from ranker.probes import ProbeError, Probes
from ranker.ranking import Ranking
from ranker.serving import ServingInfo
from ranker.tokens import check_spaces, fuse_with, fused_space
from retrieval import ablation, build
from retrieval.build import Retrieval
from retrieval.candidates import Candidate, Query
from retrieval.concatenated import ItemVectors
from retrieval.retriever import Retriever


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGeneration:
    """Implements `ranker.serving.Serving`."""

    generation: Generation
    model: RankerModel
    retrieval: Retrieval
    items: ItemVectors
    """What is fused."""
    tokens_ND: NDArray[np.float32]
    """The items' fused tokens, in the same order."""
    retriever: Retriever
    reranker: LlmReranker
    titles: Mapping[str, str]
    summaries: Mapping[str, str]
    """As much of them as prompts write; empty where they write none."""
    reader: OnlineReader | None
    """Where histories and preferences are read; None where every query must bring its own."""

    @property
    def info(self) -> ServingInfo:
        """Facts that a caller may ask for."""
        attributes = self.retrieval.attributes
        return ServingInfo(
            generation_id=self.generation.generation_id,
            model=type(self.model.llm.model).__name__,
            num_items=len(self.items),
            spaces=self.generation.spaces,
            as_of=self.generation.as_of,
            behaviors=self.model.asked,
            texts=self.generation.texts,
            calibrator=self.model.calibrator.calibrator_id if self.model.calibrator else "",
            blocks=self.retrieval.item_vectors.names,
            filterable=() if attributes is None else attributes.columns,
            comparable=() if attributes is None else attributes.numeric_columns,
        )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Every item, in the index's order."""
        return self.items.item_ids

    @property
    def known_behaviors(self) -> tuple[str, ...]:
        """Those of which the ranker has learned what they mean in a history."""
        return self.model.behaviors

    @property
    def is_degraded(self) -> bool:
        """Whether histories may be older than they should be: the online store does not answer."""
        return self.reader is not None and self.reader.is_degraded

    @property
    def caches(self) -> dict[str, CacheCounts]:
        """`prefix`, of what the LLM has read, and `features`, of what the store has told."""
        features = {} if self.reader is None else {"features": self.reader.counts}
        return {"prefix": self.reranker.cached, **features}

    def state_of(self, item_id: str) -> bytes:
        """All that was read of an item from the store; empty for an item that is not held."""
        if (row := self.items.row_of.get(item_id)) is None:
            return b""
        tokens: bytes = self.tokens_ND[row].tobytes()
        title, summary = self.titles.get(item_id, ""), self.summaries.get(item_id)
        return tokens + (title if summary is None else f"{title}\0{summary}").encode()

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        """The user's stored events, oldest first; None for a user the store does not know."""
        return None if self.reader is None else self.reader.history(user_id)

    def preference(self, user_id: str) -> str:
        """What is written of the user's preference now; empty where nothing is, and where the
        online store does not answer and nothing new enough is held, as `is_degraded` then says."""
        source = preference_source(self.generation.texts)
        if self.reader is None or source is None:
            return ""
        try:
            return self.reader.texts(source, [user_id])[0] or ""
        except Unreachable:
            return ""

    def title(self, item_id: str) -> str | None:
        """The item's title; None for an item that this generation does not hold."""
        return self.titles.get(item_id) if item_id in self.items.row_of else None

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """At most `limit` candidates, best first."""
        return self.retriever.retrieve(self._asked(query), limit=limit)

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        """`retrieve` for each query, in one search."""
        return self.retriever.retrieve_many([self._asked(one) for one in queries], limit=limit)

    def score(
        self, query: Query, item_ids: Sequence[str], *, vectors: InlineVectors | None = None
    ) -> list[Candidate]:
        """The known ones among these items that pass the filter, in the retriever's order."""
        if query.filters is not None:
            item_ids = self.retriever.attributes.passing(query.filters, item_ids)
        parts = () if vectors is None else vectors.embeddings
        return self.retriever.score(self._asked(query), item_ids, brought=parts)

    def rerank(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Ranking:
        """The final order; the first `num_explained` items say how their scores come about."""
        *_, last = self.refine(
            query, candidates, num_explained=num_explained, vectors=vectors, by_steps=False
        )
        return last

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
        by_steps: bool = True,
    ) -> Iterator[Ranking]:
        """The final order in steps, as `ranker.serving.Serving` has it; see `LlmReranker`."""
        reranker = self.reranker
        if vectors is not None:
            item_ids = [one.item_id for one in candidates]
            reranker = reranker.bringing(brought.fused(self.model, self.items, item_ids, vectors))
        query = self._told(self._asked(query))
        return reranker.refine(query, candidates, num_explained=num_explained, by_steps=by_steps)

    def without(self, name: str) -> "LoadedGeneration":
        """The same route with one block left out of retrieval, and a modality's out of fusion.

        Raises:
            ValueError: the generation has no such block, or no other one.
        """
        retrieval = ablation.without(self.retrieval, name)
        left_out = replace(self, retrieval=retrieval, retriever=retrieval.retriever())
        if name not in self.items.modalities:
            return left_out
        is_present_NM = self.items.is_present_NM.copy()
        is_present_NM[:, self.items.names.index(name)] = False
        items = replace(self.items, is_present_NM=is_present_NM)
        tokens = fuse_with(self.model, items, space=self.generation.fused_space)
        return replace(left_out, items=items)._reranked_with(tokens.vectors_ND)

    def with_adapter(self, adapter: Path) -> "LoadedGeneration":
        """The same route, reranked by another adapter of the same LLM and spaces.

        Raises:
            AdapterError: it is damaged, or was trained on another LLM, other spaces or texts.
        """
        model = models.load(adapter, llm=self.generation.llm_source)
        if model.texts != self.generation.texts:
            raise AdapterError(f"{adapter} was trained with other texts: run `sommelier train`")
        tokens = fuse_with(model, self.items, space=fused_space(adapter))
        return replace(self, model=model)._reranked_with(tokens.vectors_ND)

    def _reranked_with(self, tokens_ND: NDArray[np.float32]) -> "LoadedGeneration":
        reranker = _reranker(
            self.model,
            self.items,
            tokens_ND,
            self.retriever,
            titles=self.titles,
            summaries=self.summaries,
            generation_id=self.generation.generation_id,
        )
        return replace(self, tokens_ND=tokens_ND, reranker=reranker)

    def _asked(self, query: Query) -> Query:
        """The query with its history, looked up where it brings none, and what came since."""
        history = query.history
        if history is None:
            history = self.history(query.user_id)
            if history is None:
                raise ValueError(f"user {query.user_id!r} has no stored history: give one inline")
        return replace(query, history=(*history, *query.recent), recent=())

    def _told(self, query: Query) -> Query:
        """The query with its user's preference, looked up where it brings none. What is written
        now may tell of what came after an earlier moment, so that then nothing is read."""
        if query.preference is not None or not query.user_id or query.as_of is not None:
            return query
        return replace(query, preference=self.preference(query.user_id))


def load(
    generations: Generations,
    *,
    store: Store,
    generation_id: str | None = None,
    online: bool = True,
    reader: OnlineReader | None = None,
    prefix_cache_bytes: int = 0,
) -> LoadedGeneration:
    """Load and check a generation.

    Args:
        generations: Where it was published.
        store: Whose tokens, titles and histories it reads.
        generation_id: None for the current one.
        online: Read the online store, as a server does; else the offline one, for evaluation,
            whose queries bring their histories.
        reader: What reads the online store; None makes one.
        prefix_cache_bytes: What is held at most of the histories that the LLM has read, for the
            same users' next requests.

    Raises:
        GenerationError, AdapterError, UnusableIndex, StoreError: all ValueErrors that say what
            to run.
    """
    generation = generations.current() if generation_id is None else generations.read(generation_id)
    generation.check()
    asked = None if generation.probes is None else probes.load(generation.probes)
    reader = (reader or OnlineReader(store)) if online else None
    prefixes = PrefixCache(prefix_cache_bytes)
    loaded = _joined(generation, store=store, reader=reader, prefixes=prefixes)
    if asked is not None:
        try:
            probes.check(loaded, asked)
        except ProbeError as error:
            raise GenerationError(
                f"generation {generation.generation_id} does not answer as it did when it was "
                f"published ({error}): see that torch and transformers are those that it was "
                f"published with, or run `sommelier publish`"
            ) from error
    return loaded


def prove(generation: Generation, *, store: Store) -> Probes:
    """Load finished parts from the offline store and ask them what `load` will ask again.

    Raises:
        GenerationError, AdapterError, UnusableIndex, StoreError: as `load` would.
    """
    loaded = _joined(generation, store=store, reader=None, prefixes=None)
    return probes.make(loaded, tolerance=probes.TOLERANCES[loaded.model.config.llm.dtype])


def _joined(
    generation: Generation,
    *,
    store: Store,
    reader: OnlineReader | None,
    prefixes: PrefixCache | None,
) -> LoadedGeneration:
    """A generation's parts, each checked against the others."""
    if fused_space(generation.adapter) != generation.fused_space:
        raise GenerationError(
            f"generation {generation.generation_id}: its tokens were made by another adapter: "
            f"{REPAIR}"
        )
    retrieval = build.load(generation.index, expected_spaces=generation.spaces)
    model = models.load(generation.adapter, llm=generation.llm_source)
    check_spaces(model, retrieval.item_vectors)
    item_ids = retrieval.item_vectors.item_ids
    if reader is not None:
        reader.refresh(generation.generation_id)
    held = hold(generation, model, item_ids, store=store, reader=reader)
    if reader is not None:
        reader.clear()  # from here on the generation itself holds them
    retriever = retrieval.retriever()
    return LoadedGeneration(
        generation=generation,
        model=model,
        retrieval=retrieval,
        items=retrieval.item_vectors,
        tokens_ND=held.tokens_ND,
        retriever=retriever,
        reranker=_reranker(
            model,
            retrieval.item_vectors,
            held.tokens_ND,
            retriever,
            titles=held.titles,
            summaries=held.summaries,
            generation_id=generation.generation_id,
            prefixes=prefixes,
        ),
        titles=held.titles,
        summaries=held.summaries,
        reader=reader,
    )


def _reranker(
    model: RankerModel,
    items: ItemVectors,
    tokens_ND: NDArray[np.float32],
    retriever: Retriever,
    *,
    titles: Mapping[str, str],
    summaries: Mapping[str, str],
    generation_id: str,
    prefixes: PrefixCache | None = None,
) -> LlmReranker:
    return LlmReranker(
        model,
        item_ids=items.item_ids,
        tokens_ND=tokens_ND,
        present=items.modalities_of,
        titles=titles,
        summaries=summaries,
        generation_id=generation_id,
        explainer=Explainer(model, items, weights=retriever.weights_of),
        prefixes=prefixes,
    )
