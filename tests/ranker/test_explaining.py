"""Explanations add up to the scores, and are what leaving blocks out one by one would give."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from math import factorial
from pathlib import Path

import pytest
import torch

from embedders.items import Modality
from ranker import llm as llms
from ranker import tokens
from ranker.calibration import Calibrator
from ranker.evidence import features, without
from ranker.explaining import Explainer
from ranker.llm_reranker import LlmReranker
from ranker.model import RankerModel, tensors
from ranker.packing import AnswerHead, score_one_by_one
from ranker.ranking import RankedItem
from retrieval.candidates import Candidate, Query
from tests.ranker import model_world

ITEMS = model_world.items()
RETRIEVER = model_world.retriever(ITEMS)
(EXAMPLE,) = model_world.examples(1, limit=20)
CLOSE = 2e-4  # one pass for each prompt rounds otherwise than the packed one


@pytest.fixture(scope="module")
def reranker(adapter: Path, model: RankerModel) -> LlmReranker:
    explainer = Explainer(model, ITEMS, weights=RETRIEVER.weights_of)
    return model_world.reranker(adapter, model, explainer=explainer)


def by_hand(
    model: RankerModel, query: Query, candidate: Candidate, weights: Mapping[str, float]
) -> dict[frozenset[str], float]:
    """The score that the item would have with each set of its blocks, from whole prompts."""
    head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)
    prompter = model.prompter(ITEMS, model_world.TITLES)
    row = ITEMS.row_of[candidate.item_id]
    worths = {}
    for size in range(len(model.blocks) + 1):
        for kept in combinations(model.blocks, size):
            vectors, is_present_NM = tensors(ITEMS, slice(None))
            for place, name in enumerate(ITEMS.modalities):
                is_present_NM[row, place] &= name in kept
            absent = [name for name in model.blocks if name not in kept]
            found = without(features([candidate], model.blocks), model.blocks, absent, weights)
            with torch.inference_mode():
                whole = model.fuse(*tensors(ITEMS, slice(None))).flatten(0, 1)
                less = model.fuse(vectors, is_present_NM).flatten(0, 1)
                evidence, prior = model.evidence(torch.from_numpy(found))
                prefix = model.embed(prompter.prefix(query.history or ()), whole, evidence)
                branch = model.embed(prompter.branch(candidate.item_id, slot=0), less, evidence)
                logit = score_one_by_one(model.causal_lm, prefix, [branch], head)
            worths[frozenset(kept)] = float(prior + logit)
    return worths


def shapley(worths: Mapping[frozenset[str], float], player: str) -> float:
    """The definition, word for word."""
    num = max(map(len, worths))
    return sum(
        factorial(len(one)) * factorial(num - len(one) - 1) / factorial(num)
        * (worths[one | {player}] - worths[one])
        for one in worths
        if player not in one
    )  # fmt: skip


@pytest.mark.parametrize("place", [0, 3])
def test_contributions_are_the_shapley_values_of_leaving_blocks_out(
    place: int, reranker: LlmReranker, model: RankerModel
) -> None:
    item = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=20).items[place]
    candidate = next(one for one in EXAMPLE.candidates if one.item_id == item.item_id)
    worths = by_hand(model, EXAMPLE.query, candidate, RETRIEVER.weights)
    assert item.explanation is not None
    assert worths[frozenset(model.blocks)] == pytest.approx(item.score, abs=CLOSE)
    assert item.explanation.base == pytest.approx(worths[frozenset()], abs=CLOSE)
    for name in model.blocks:
        expected = shapley(worths, name)
        assert item.explanation.contributions[name] == pytest.approx(expected, abs=CLOSE)
    assert max(map(abs, item.explanation.contributions.values())) > 10 * CLOSE


def total(item: RankedItem) -> float:
    assert item.explanation is not None
    return item.explanation.base + sum(item.explanation.contributions.values())


def test_base_and_contributions_add_up_to_the_score(reranker: LlmReranker) -> None:
    ranking = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=20)
    for item in ranking.items:
        assert total(item) == pytest.approx(item.score, rel=1e-9, abs=1e-9)


def test_explaining_changes_nothing_else_and_explains_no_more_than_asked(
    reranker: LlmReranker,
) -> None:
    plain = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    assert all(item.explanation is None for item in plain.items)
    explained = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=3)
    assert [item.explanation is not None for item in explained.items] == [True] * 3 + [False] * 17
    assert [replace(item, explanation=None) for item in explained.items] == list(plain.items)
    again = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates[::-1], num_explained=3)
    assert again == explained


def test_a_block_that_an_item_lacks_adds_nothing_to_it(reranker: LlmReranker) -> None:
    lacking = [*model_world.LACKS.values(), model_world.BARE]
    candidates = RETRIEVER.score(EXAMPLE.query, lacking)
    ranking = reranker.rerank(EXAMPLE.query, candidates, num_explained=4)
    found = {item.item_id: item.explanation for item in ranking.items}
    for name, item_id in model_world.LACKS.items():
        explanation = found[item_id]
        assert explanation is not None
        assert set(explanation.contributions) == {str(one) for one in ITEMS.modalities}
        assert explanation.contributions[name] == 0
        assert sum(one != 0 for one in explanation.contributions.values()) == 2
    bare = found[model_world.BARE]
    assert bare is not None
    assert set(bare.contributions.values()) == {0.0}
    assert bare.base == next(
        item.score for item in ranking.items if item.item_id == model_world.BARE
    )


def test_nothing_but_items_without_vectors_can_be_explained(reranker: LlmReranker) -> None:
    candidates = RETRIEVER.score(EXAMPLE.query, [model_world.BARE])
    (item,) = reranker.rerank(EXAMPLE.query, candidates, num_explained=1).items
    assert total(item) == item.score


def test_a_block_that_was_found_alone_takes_its_part_of_the_retrievers_score(
    reranker: LlmReranker, model: RankerModel
) -> None:
    """What a query weighs for itself counts in its explanation, too."""
    query = replace(EXAMPLE.query, weights={Modality.AUDIO: 3.0})
    (candidate,) = RETRIEVER.score(query, ["item-08"])
    (item,) = reranker.rerank(query, [candidate], num_explained=1).items
    worths = by_hand(model, query, candidate, {**RETRIEVER.weights, Modality.AUDIO: 3.0})
    assert item.explanation is not None
    expected = shapley(worths, Modality.AUDIO)
    assert item.explanation.contributions[Modality.AUDIO] == pytest.approx(expected, abs=CLOSE)


def test_unknown_items_are_not_explained(reranker: LlmReranker) -> None:
    unknown = Candidate(item_id="zz", score=0.5, rank=1)
    known = EXAMPLE.candidates[0]
    ranking = reranker.rerank(EXAMPLE.query, [unknown, known], num_explained=5)
    assert [item.explanation is None for item in ranking.items] == [False, True]


def test_a_reranker_without_the_items_vectors_cannot_explain(
    adapter: Path, model: RankerModel
) -> None:
    plain = LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=tokens.fuse(adapter, ITEMS).vectors_ND,
        present={},
        titles={},
        generation_id="g",
    )
    assert plain.rerank(EXAMPLE.query, EXAMPLE.candidates).items
    with pytest.raises(ValueError, match="holds no item vectors"):
        plain.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=1)


def test_an_explanation_is_of_the_calibrated_score(
    reranker: LlmReranker, model: RankerModel
) -> None:
    model.calibrator = Calibrator(logit_weight=0.0, slope=1.0, intercept=0.0)
    try:
        ranking = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=2)
    finally:
        model.calibrator = None
    for item in ranking.items[:2]:
        candidate = next(one for one in EXAMPLE.candidates if one.item_id == item.item_id)
        found = features([candidate], model.blocks)
        bare = without(found, model.blocks, model.blocks, RETRIEVER.weights)
        _, prior = model.evidence(torch.from_numpy(bare))
        assert item.explanation is not None
        assert item.explanation.base == pytest.approx(float(prior), abs=1e-6), "without the LLM"
        assert total(item) == pytest.approx(item.score, rel=1e-9, abs=1e-9)


def test_an_llm_alone_is_explained_by_what_it_reads(llm_folder: Path) -> None:
    """Without evidence a block counts by its share in the fused tokens, and nothing else does."""
    config = replace(model_world.CONFIG, has_evidence=False)
    torch.manual_seed(0)
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other",),
        config=config,
    ).requires_grad_(False)
    with torch.inference_mode():
        fused = model.fuse(*tensors(ITEMS, slice(None))).flatten(1).numpy()
    alone = LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=fused,
        present={},
        titles={},
        generation_id="g",
        explainer=Explainer(model, ITEMS, weights=RETRIEVER.weights_of),
    )
    unfound = [Candidate(item_id=one, score=0.0, rank=n) for n, one in enumerate(("item-02",), 1)]
    (item,) = alone.rerank(EXAMPLE.query, unfound, num_explained=1).items
    assert item.score == item.logit
    assert total(item) == pytest.approx(item.score, rel=1e-9, abs=1e-9)
    assert item.explanation is not None
    values = item.explanation.contributions
    assert values[Modality.GRAPH] == 0, "it has no edges"
    assert values[Modality.AUDIO] != 0 != values[Modality.TEXT]
