"""Worlds to serve: one whose model costs nothing, and one around an LLM of a given shape.

The second is made of the product's own parts: prompts, evidence, packing, the retriever; only
weights, vectors and titles are random, because neither time nor load depends on them. Stored
users have read histories of any length that is asked for by their name: `user-7-30` is the
seventh user with 30 events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _packed_sides import LONGEST, SHORTEST, make  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from embedders.items import Interaction, Modality  # noqa: E402
from embedders.vectors import Embeddings, Space, normalize  # noqa: E402
from feature_repo.base import CacheCounts  # noqa: E402
from ranker.config import FusionConfig, PromptConfig, RankerConfig, Written  # noqa: E402
from ranker.llm import Llm  # noqa: E402
from ranker.llm_reranker import LlmReranker  # noqa: E402
from ranker.model import RankerModel, tensors  # noqa: E402
from ranker.prefixes import PrefixCache  # noqa: E402
from ranker.prompts import FRAME  # noqa: E402
from ranker.ranking import RankedItem, Ranking, Status  # noqa: E402
from ranker.serving import ServingInfo  # noqa: E402
from retrieval.candidates import Candidate, Query  # noqa: E402
from retrieval.concatenated import ItemVectors, concatenate  # noqa: E402
from retrieval.exact import ExactIndex  # noqa: E402
from retrieval.pooled import PooledHistory, PoolingConfig  # noqa: E402
from retrieval.retriever import Retriever  # noqa: E402

NUM_ITEMS = 2000
SOFT = 4  # tokens of a fused item
BORN = datetime(2026, 1, 1, tzinfo=UTC)
ITEM_IDS = [f"item-{n:05}" for n in range(NUM_ITEMS)]
SPACES = (
    Space(modality=Modality.GRAPH, encoder="random", revision="1", dim=64),
    Space(modality=Modality.TEXT, encoder="random", revision="1", dim=384),
)


def info(model: str) -> ServingInfo:
    """Facts of a world."""
    return ServingInfo(
        generation_id="benchmark", model=model, num_items=NUM_ITEMS, spaces=SPACES, as_of=BORN
    )


class NoopServing:
    """Answers with the candidates as they came: what is left is the service itself."""

    is_degraded = False

    def __init__(self) -> None:
        self.info = info("none")
        self.is_degraded = False
        self.caches: dict[str, CacheCounts] = {}

    def history(self, user_id: str) -> tuple[Interaction, ...]:
        """Of nobody is anything known."""
        return ()

    def title(self, item_id: str) -> str:
        """Of every item alike."""
        return "an item"

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """The first items."""
        return _as_given(tuple(ITEM_IDS[:limit]))

    def score(self, query: Query, item_ids: Sequence[str], **brought: Any) -> list[Candidate]:
        """As they came."""
        return _as_given(tuple(item_ids))

    def rerank(self, query: Query, candidates: Sequence[Candidate], **asked: Any) -> Ranking:
        """As they came."""
        return _unchanged(tuple(one.item_id for one in candidates))

    def refine(
        self, query: Query, candidates: Sequence[Candidate], **asked: Any
    ) -> Iterator[Ranking]:
        """In one step."""
        yield self.rerank(query, candidates)


@lru_cache(maxsize=64)
def _as_given(item_ids: tuple[str, ...]) -> list[Candidate]:
    return [
        Candidate(item_id=item_id, score=1 / rank, rank=rank)
        for rank, item_id in enumerate(item_ids, start=1)
    ]


@lru_cache(maxsize=64)
def _unchanged(item_ids: tuple[str, ...]) -> Ranking:
    items = tuple(
        RankedItem(
            item_id=item_id,
            rank=rank,
            score=1 / rank,
            logit=0.0,
            status=Status.OK,
            retrieval_rank=rank,
            retrieval_score=1 / rank,
            present=(Modality.TEXT,),
        )
        for rank, item_id in enumerate(item_ids, start=1)
    )
    return Ranking(items=items, generation_id="benchmark", judged_by="nobody")


class LlmServing:
    """Random vectors, random weights, and otherwise what is served."""

    is_degraded = False

    def __init__(self, shape: str, *, written: Written, prefix_cache_mib: int) -> None:
        """Make it; equal arguments make equal worlds, in whatever process.

        Args:
            shape: One of `_packed_sides.SHAPES`.
            written: Whether items stand in prompts as 4 fused tokens or as titles of 16 to 32.
            prefix_cache_mib: What is kept of histories that were read.
        """
        vectors, titles = _items(), _titles()
        self.titles = titles
        self.is_degraded = False
        self.caches: dict[str, CacheCounts] = {}
        self.model = _model(shape, vectors, written)
        self.tokens_ND = _tokens(self.model, vectors)
        self.retriever = _retriever(vectors)
        self.reranker = LlmReranker(
            self.model,
            item_ids=ITEM_IDS,
            tokens_ND=self.tokens_ND,
            present=dict.fromkeys(ITEM_IDS, vectors.modalities),
            titles=titles,
            generation_id="benchmark",
            prefixes=PrefixCache(prefix_cache_mib * 2**20),
        )
        self.info = info(type(self.model.llm.model).__name__)

    def history(self, user_id: str) -> tuple[Interaction, ...]:
        """By the user's name."""
        return history(user_id)

    def title(self, item_id: str) -> str | None:
        """None for an unknown item."""
        return self.titles.get(item_id)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """The nearest items."""
        return self.retriever.retrieve(self.asked(query), limit=limit)

    def score(self, query: Query, item_ids: Sequence[str], **brought: Any) -> list[Candidate]:
        """The items that were asked for, in the retriever's order."""
        return self.retriever.score(self.asked(query), item_ids)

    def rerank(self, query: Query, candidates: Sequence[Candidate], **asked: Any) -> Ranking:
        """The last of `refine`."""
        *_, ranking = self.refine(query, candidates, **asked)
        return ranking

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: None = None,
    ) -> Iterator[Ranking]:
        """Pass by pass; no request brings vectors."""
        return self.reranker.refine(self.asked(query), candidates, num_explained=num_explained)

    def asked(self, query: Query) -> Query:
        """With the stored history, where the query brings none."""
        if query.history is not None:
            return query
        return replace(query, history=self.history(query.user_id))


@lru_cache(maxsize=4096)
def history(user_id: str) -> tuple[Interaction, ...]:
    """`user-7-30`: 30 views, oldest first."""
    _, seed, count = user_id.split("-")
    random = np.random.default_rng(int(seed))
    rows = random.choice(NUM_ITEMS, size=int(count), replace=False)
    return tuple(
        Interaction(
            item_id=ITEM_IDS[row], behavior="view", timestamp=BORN - timedelta(hours=len(rows) - n)
        )
        for n, row in enumerate(rows)
    )


def candidates(seed: int, count: int) -> list[str]:
    """Distinct items."""
    random = np.random.default_rng([seed, count])
    return [ITEM_IDS[row] for row in random.choice(NUM_ITEMS, size=count, replace=False)]


def _items() -> ItemVectors:
    random = np.random.default_rng(0)
    return concatenate(
        [
            Embeddings(
                space=space,
                item_ids=ITEM_IDS,
                vectors_ND=normalize(random.normal(size=(NUM_ITEMS, space.dim))),
            )
            for space in SPACES
        ],
        item_ids=ITEM_IDS,
    )


def _titles() -> dict[str, str]:
    """16 to 32 words, which are numbers and tokens."""
    random = np.random.default_rng(1)
    lengths = random.integers(SHORTEST, LONGEST, size=NUM_ITEMS, endpoint=True)
    return {
        item_id: " ".join(map(str, random.integers(0, 200, size=length)))
        for item_id, length in zip(ITEM_IDS, lengths, strict=True)
    }


def _model(shape: str, vectors: ItemVectors, written: Written) -> RankerModel:
    llm = make(shape)
    words = [str(n) for n in range(200)] + [*FRAME, "view", "other"]
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(1)
    model = RankerModel(
        Llm(
            model=llm.requires_grad_(False),
            tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="0"),
            yes=words.index("yes"),
            no=words.index("no"),
            source="random weights",
            revision="1",
        ),
        spaces=vectors.spaces,
        behaviors=("other", "view"),
        config=RankerConfig(
            fusion=FusionConfig(num_tokens=SOFT),
            prompt=PromptConfig(
                history_limit=200, history=written, candidates=written, title_tokens=LONGEST
            ),
        ),
    )
    return model.requires_grad_(False).eval()


@torch.inference_mode()
def _tokens(model: RankerModel, vectors: ItemVectors) -> Any:
    return model.fuse(*tensors(vectors, slice(None))).flatten(1).numpy()


def _retriever(vectors: ItemVectors) -> Retriever:
    index = ExactIndex(dim=vectors.dim)
    index.add(vectors.item_ids, vectors.vectors_ND)
    return Retriever(index, vectors, PooledHistory(vectors, config=PoolingConfig()), popularity=[])


def load(world: str, **asked: Any) -> NoopServing | LlmServing:
    """By name: `noop`, or a shape of the LLM with its further arguments; one thread for each
    piece of work, as `sommelier serve` has it."""
    torch.set_num_threads(1)
    return NoopServing() if world == "noop" else LlmServing(world, **asked)
