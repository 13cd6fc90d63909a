"""Equal questions get equal answers, however the work is cut up and whoever does it.

Over real checkpoints, tiny ones. Bits are compared where the same passes run; where a pass is cut
otherwise, its sums are added up in another order: then ranks are compared, which must not move.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.items import Interaction
from ranker import llm as llms
from ranker.config import LlmConfig
from ranker.llm import Llm
from ranker.packing import AnswerHead, read, score_packed
from ranker.ranking import Ranking
from retrieval.candidates import Query
from tests.ranker import family_world, model_serving, model_world
from tests.ranker.model_serving import ModelServing

History = tuple[Interaction, ...]

ALL_IDS = (*model_world.IDS, model_world.BARE)
HISTORIES = st.lists(st.sampled_from(ALL_IDS), max_size=6).map(
    lambda ids: model_world.history(*ids)
)
ITEM_IDS = st.lists(st.sampled_from([*ALL_IDS, "unknown"]), min_size=1, max_size=20, unique=True)
LARGEST = 1024

# The same examples in every run: a property that fails does so for all.
often = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def serving(adapter: Path) -> ModelServing:
    return model_serving.load(str(adapter))


@pytest.fixture(scope="module")
def forgetful(adapter: Path) -> ModelServing:
    """Keeps about two histories, so that prefixes come and go."""
    return model_serving.load(str(adapter), prefix_cache_bytes=40_000)


def answer(serving: ModelServing, query: Query, item_ids: Sequence[str]) -> Ranking:
    return serving.rerank(query, serving.score(query, item_ids))


@often
@given(data=st.data(), history=HISTORIES, item_ids=ITEM_IDS)
def test_the_order_in_which_items_are_brought_changes_no_bit(
    serving: ModelServing, data: st.DataObject, history: History, item_ids: list[str]
) -> None:
    query = Query(history=history)
    other = data.draw(st.permutations(item_ids))
    assert answer(serving, query, other) == answer(serving, query, item_ids)
    candidates = serving.score(query, item_ids)
    shuffled = data.draw(st.permutations(candidates))
    assert serving.rerank(query, shuffled) == serving.rerank(query, candidates)


@often
@given(data=st.data(), history=HISTORIES, item_ids=ITEM_IDS)
def test_an_item_stands_before_another_whoever_else_is_asked_about(
    serving: ModelServing, data: st.DataObject, history: History, item_ids: list[str]
) -> None:
    """A part of the list is in the order of the whole: there is no listwise surprise."""
    query = Query(history=history)
    whole = serving.score(query, item_ids)
    kept = data.draw(st.sets(st.sampled_from(item_ids)))
    order = [one.item_id for one in serving.rerank(query, whole).items]
    part = [one for one in whole if one.item_id in kept]
    found = [one.item_id for one in serving.rerank(query, part).items]
    assert found == [item_id for item_id in order if item_id in kept]


@often
@given(data=st.data())
def test_what_was_asked_before_and_is_kept_changes_no_bit(
    serving: ModelServing, forgetful: ModelServing, data: st.DataObject
) -> None:
    users = data.draw(st.lists(HISTORIES, min_size=1, max_size=3))
    for _ in range(5):
        query = Query(history=data.draw(st.sampled_from(users)))
        item_ids = data.draw(ITEM_IDS)
        assert answer(forgetful, query, item_ids) == answer(serving, query, item_ids)


@often
@given(
    questions=st.lists(st.tuples(HISTORIES, ITEM_IDS), min_size=2, max_size=6),
    num_workers=st.integers(2, 4),
)
def test_whoever_is_answered_at_the_same_time_changes_no_bit(
    serving: ModelServing,
    forgetful: ModelServing,
    questions: list[tuple[History, list[str]]],
    num_workers: int,
) -> None:
    expected = [answer(serving, Query(history=one), ids) for one, ids in questions]
    with ThreadPoolExecutor(num_workers) as pool:
        calls = [pool.submit(answer, forgetful, Query(history=one), ids) for one, ids in questions]
        assert [call.result() for call in calls] == expected


@pytest.fixture(scope="module")
def families(llm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Llm]:
    @cache
    def loaded(family: str) -> Llm:
        folder = tmp_path_factory.mktemp(family)
        build = family_world.FAMILIES[family]
        return llms.load(family_world.save(build, folder, tokenizer=llm_folder), config=LlmConfig())

    return loaded


def ranks(logits_B: torch.Tensor) -> list[int]:
    return sorted(range(len(logits_B)), key=lambda n: (-float(logits_B[n]), n))


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma2", "gemma3", "smollm3"])
@often
@given(token_budget=st.integers(1, LARGEST), data=st.data())
def test_however_branches_are_cut_into_passes_their_ranks_are_the_same(
    families: Callable[[str], Llm], family: str, token_budget: int, data: st.DataObject
) -> None:
    llm = families(family)
    given_ = family_world.prompt(llm, num_branches=24)
    head = AnswerHead(llm.model, yes=llm.yes, no=llm.no)
    order = data.draw(st.permutations(range(24)))
    with torch.inference_mode():
        prefix = read(llm.model, given_.prefix)
        whole = score_packed(llm.model, prefix, given_.branches, head, token_budget=LARGEST)
        cut = torch.empty(24)
        cut[list(order)] = score_packed(
            llm.model,
            prefix,
            [given_.branches[n] for n in order],
            head,
            token_budget=token_budget,
        )
    assert ranks(cut) == ranks(whole)
    assert (cut - whole).abs().max() <= 1e-4
