"""Every candidate comes back once, in an order that depends on nothing but the question."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedders.items import Modality
from ranker import llm as llms
from ranker import packing, tokens
from ranker.calibration import Calibrator
from ranker.evidence import features
from ranker.explaining import Explainer
from ranker.llm_reranker import LlmReranker
from ranker.model import RankerModel, tensors
from ranker.packing import AnswerHead, score_one_by_one
from ranker.prefixes import PrefixCache
from ranker.ranking import Ranking, Status
from retrieval.candidates import Candidate, Query
from tests.ranker import model_world

ITEMS = model_world.items()
(EXAMPLE,) = model_world.examples(1, limit=20)
UNKNOWN = [Candidate(item_id=one, score=0.5, rank=30 + n) for n, one in enumerate(("zz", "aa"))]


@pytest.fixture(scope="module")
def reranker(adapter: Path, model: RankerModel) -> LlmReranker:
    explainer = Explainer(model, ITEMS, weights=model_world.retriever(ITEMS).weights_of)
    return model_world.reranker(adapter, model, explainer=explainer)


def by_id(ranking: Ranking) -> dict[str, tuple[float, float]]:
    return {one.item_id: (one.score, one.logit) for one in ranking.items}


def test_every_candidate_is_ranked_once_best_first(reranker: LlmReranker) -> None:
    ranking = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    assert (ranking.generation_id, ranking.judged_by) == ("g-000007", "llm")
    assert [one.rank for one in ranking.items] == list(range(1, 21))
    scores = [one.score for one in ranking.items]
    assert scores == sorted(scores, reverse=True)
    given = {one.item_id: (one.rank, one.score) for one in EXAMPLE.candidates}
    answered = {one.item_id: (one.retrieval_rank, one.retrieval_score) for one in ranking.items}
    assert answered == given


def test_the_order_of_candidates_cannot_change_a_bit(reranker: LlmReranker) -> None:
    expected = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    random = np.random.default_rng(0)
    for _ in range(5):
        shuffled = [EXAMPLE.candidates[n] for n in random.permutation(20)]
        assert reranker.rerank(EXAMPLE.query, shuffled) == expected


def test_a_score_is_the_prior_plus_what_scoring_alone_gives(
    reranker: LlmReranker, model: RankerModel
) -> None:
    ranking = by_id(reranker.rerank(EXAMPLE.query, EXAMPLE.candidates))
    head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)
    prompter = model.prompter(ITEMS, model_world.TITLES)
    with torch.inference_mode():
        for one in EXAMPLE.candidates[:4]:
            evidence, prior = model.evidence(torch.from_numpy(features([one], model.modalities)))
            rows = reranker._tokens_RH
            prefix = model.embed(prompter.prefix(EXAMPLE.query.history or ()), rows, evidence)
            branch = model.embed(prompter.branch(one.item_id, slot=0), rows, evidence)
            logit = float(score_one_by_one(model.causal_lm, prefix, [branch], head))
            assert ranking[one.item_id][1] == pytest.approx(logit, abs=1e-4)
            assert ranking[one.item_id][0] == pytest.approx(float(prior) + logit, abs=1e-4)


def test_a_prefix_that_was_kept_gives_the_same_answers_bit_by_bit(
    adapter: Path, model: RankerModel, reranker: LlmReranker
) -> None:
    prefixes = PrefixCache(2**20)
    keeping = LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=tokens.fuse(adapter, ITEMS).vectors_ND,
        present=reranker._present,
        titles=model_world.TITLES,
        generation_id="g-000007",
        explainer=Explainer(model, ITEMS, weights=lambda query: {}),
        prefixes=prefixes,
    )
    cold = keeping.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=2)
    assert (len(prefixes), prefixes.num_hits) == (1, 0)
    warm = keeping.rerank(EXAMPLE.query, EXAMPLE.candidates, num_explained=2)
    assert (len(prefixes), prefixes.num_hits) == (1, 1)
    assert warm == cold
    fewer = keeping.rerank(EXAMPLE.query, EXAMPLE.candidates[:5])
    assert by_id(fewer) == by_id(reranker.rerank(EXAMPLE.query, EXAMPLE.candidates[:5]))
    other = replace(EXAMPLE.query, history=(EXAMPLE.query.history or ())[:-1])
    assert by_id(keeping.rerank(other, EXAMPLE.candidates)) != by_id(cold)
    assert (len(prefixes), prefixes.num_hits) == (2, 2)


def test_candidates_that_are_alike_are_told_apart_by_id(model: RankerModel) -> None:
    alike = LlmReranker(
        model,
        item_ids=["b", "a", "c"],
        tokens_ND=np.ones((3, 64), dtype=np.float32),
        present={},
        titles={},
        generation_id="g",
    )
    candidates = [Candidate(item_id=one, score=1.0, rank=n) for n, one in enumerate("cab", 1)]
    ranking = alike.rerank(Query(history=()), candidates)
    assert len({one.score for one in ranking.items}) == 1
    assert [one.item_id for one in ranking.items] == ["a", "b", "c"]


def test_an_unknown_item_comes_last_without_a_rank(reranker: LlmReranker) -> None:
    known = EXAMPLE.candidates[:3]
    ranking = reranker.rerank(EXAMPLE.query, [*UNKNOWN, *known])
    assert [one.rank for one in ranking.items] == [1, 2, 3, 0, 0]
    assert [one.item_id for one in ranking.items[3:]] == ["aa", "zz"]
    for one in ranking.items[3:]:
        assert one.status is Status.UNKNOWN_ITEM
        assert (one.score, one.logit, one.present) == (0.0, 0.0, ())
    assert [one.retrieval_rank for one in ranking.items[3:]] == [31, 30]
    assert ranking.items[:3] == reranker.rerank(EXAMPLE.query, known).items


def test_an_item_without_vectors_is_ranked_and_says_so(reranker: LlmReranker) -> None:
    candidates = [
        Candidate(item_id=one, score=0.0, rank=n)
        for n, one in enumerate((model_world.BARE, "item-01", "item-04"), start=1)
    ]
    answered = {one.item_id: one for one in reranker.rerank(EXAMPLE.query, candidates).items}
    assert answered[model_world.BARE].status is Status.MISSING_VECTORS
    assert answered[model_world.BARE].rank > 0
    assert answered["item-01"].status is Status.OK
    assert answered["item-01"].present == (Modality.GRAPH, Modality.TEXT)
    assert answered["item-04"].present == (Modality.AUDIO, Modality.GRAPH, Modality.TEXT)


def test_a_candidate_that_occurs_twice_is_refused(reranker: LlmReranker) -> None:
    for one in (EXAMPLE.candidates[0], UNKNOWN[0]):
        with pytest.raises(ValueError, match="occurs twice"):
            reranker.rerank(EXAMPLE.query, [one, one])


def test_nothing_to_rank_is_ranked(reranker: LlmReranker) -> None:
    assert reranker.rerank(EXAMPLE.query, ()).items == ()
    only_unknown = reranker.rerank(EXAMPLE.query, UNKNOWN).items
    assert [one.item_id for one in only_unknown] == ["aa", "zz"]


def test_events_at_or_after_the_question_are_not_read(reranker: LlmReranker) -> None:
    history = model_world.history("item-04", "item-05", "item-06")
    query = Query(history=history, as_of=history[2].timestamp)
    now = by_id(reranker.rerank(query, EXAMPLE.candidates))
    assert now == by_id(reranker.rerank(Query(history=history[:2]), EXAMPLE.candidates))
    assert now != by_id(reranker.rerank(Query(history=history), EXAMPLE.candidates))


def test_the_history_moves_the_llms_part_alone(reranker: LlmReranker) -> None:
    one = by_id(reranker.rerank(EXAMPLE.query, EXAMPLE.candidates))
    empty = by_id(reranker.rerank(replace(EXAMPLE.query, history=()), EXAMPLE.candidates))
    for item_id, (score, logit) in one.items():
        assert logit != empty[item_id][1]
        assert score - logit == pytest.approx(empty[item_id][0] - empty[item_id][1], abs=1e-5)


def calibrated(reranker: LlmReranker, model: RankerModel, weight: float) -> Ranking:
    """As if held-out lists had given the LLM this weight."""
    model.calibrator = Calibrator(logit_weight=weight, slope=2.0, intercept=-1.0)
    try:
        return reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    finally:
        model.calibrator = None


def test_a_calibrator_weighs_the_logit_and_turns_scores_into_probabilities(
    reranker: LlmReranker, model: RankerModel
) -> None:
    plain = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    assert plain.logit_weight == 1
    assert all(one.probability is None for one in plain.items)
    before = {one.item_id: (plain.prior(one), one.logit) for one in plain.items}
    ranking = calibrated(reranker, model, 0.25)
    assert ranking.logit_weight == 0.25
    for one in ranking.items:
        prior, logit = before[one.item_id]
        assert one.logit == logit
        assert one.score == pytest.approx(prior + 0.25 * logit, abs=1e-6)
        assert ranking.prior(one) == pytest.approx(prior, abs=1e-6)
        assert one.probability == pytest.approx(1 / (1 + np.exp(1 - 2 * one.score)), abs=1e-12)
    scores = [one.score for one in ranking.items]
    assert scores == sorted(scores, reverse=True)


def test_an_llm_of_weight_zero_leaves_the_priors_order(
    reranker: LlmReranker, model: RankerModel
) -> None:
    ranking = calibrated(reranker, model, 0.0)
    assert all(one.logit != 0 for one in ranking.items)
    assert [one.score for one in ranking.items] == [ranking.prior(one) for one in ranking.items]
    plain = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    expected = sorted(plain.items, key=lambda one: (-plain.prior(one), one.item_id))
    assert [one.item_id for one in ranking.items] == [one.item_id for one in expected]


def test_a_behavior_that_training_did_not_ask_about_is_refused(
    reranker: LlmReranker, model: RankerModel
) -> None:
    query = replace(EXAMPLE.query, behavior="buy")
    with pytest.raises(ValueError, match="behavior: this ranker foresees any choice alike"):
        reranker.rerank(query, EXAMPLE.candidates)
    model.asked = ("rate", "view")
    try:
        with pytest.raises(ValueError, match=r"'buy' is none of those .*: rate, view"):
            reranker.rerank(query, [])
    finally:
        model.asked = ()


def test_what_is_asked_about_moves_the_llms_part_alone(
    llm_folder: Path,
) -> None:
    prompt = replace(model_world.CONFIG.prompt, asks_behavior=True)
    config = replace(model_world.CONFIG, prompt=prompt)
    torch.manual_seed(0)
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other", "rate", "view"),
        config=config,
    ).requires_grad_(False)
    model.asked = ("rate", "view")
    with torch.inference_mode():
        fused = model.fuse(*tensors(ITEMS, slice(None))).flatten(1).numpy()
    asking = LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=fused,
        present={},
        titles={},
        generation_id="g",
    )
    found = {
        behavior: by_id(
            asking.rerank(replace(EXAMPLE.query, behavior=behavior), EXAMPLE.candidates)
        )
        for behavior in (None, "rate", "view")
    }
    for item_id, (score, logit) in found[None].items():
        logits = {found[behavior][item_id][1] for behavior in found}
        assert len(logits) == 3
        for behavior in ("rate", "view"):
            other_score, other_logit = found[behavior][item_id]
            assert other_score - other_logit == pytest.approx(score - logit, abs=1e-5)


def test_a_query_without_a_history_is_refused(reranker: LlmReranker) -> None:
    with pytest.raises(ValueError, match="has no history"):
        reranker.rerank(Query(user_id="ann"), EXAMPLE.candidates)


STEPS = 20  # tokens of the first pass: the example's candidates take several


@pytest.fixture
def in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranker.llm_reranker.FIRST_BUDGET", STEPS)


@pytest.mark.usefixtures("in_small_steps")
def test_a_ranking_is_refined_from_retrievals_order_to_the_complete_one(
    reranker: LlmReranker, model: RankerModel
) -> None:
    model.calibrator = Calibrator(logit_weight=0.5, slope=1.0, intercept=0.0)
    try:
        first, *between, last = reranker.refine(EXAMPLE.query, EXAMPLE.candidates)
        assert last == reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    finally:
        model.calibrator = None
    by_rank = [one.item_id for one in sorted(EXAMPLE.candidates, key=lambda one: one.rank)]
    assert [one.item_id for one in first.items] == by_rank
    assert first.judged_by == "retrieval_order"
    assert {one.status for one in first.items} == {Status.NOT_SCORED}
    assert {one.probability for one in first.items} == {None}
    counts = [ranking.num_scored for ranking in (first, *between, last)]
    assert counts[:2] == [0, 0], "reading the history scores nothing yet"
    assert counts[1:] == sorted(set(counts)), "every pass scores more"
    assert len(counts) > 3
    assert counts[-1] == 20
    final = {one.item_id: one for one in last.items}
    for ranking in (first, *between):
        assert ranking.tokens_ahead > 0
        scored, rest = ranking.items[: ranking.num_scored], ranking.items[ranking.num_scored :]
        assert {one.item_id for one in scored} == set(by_rank[: ranking.num_scored])
        assert [one.item_id for one in rest] == by_rank[ranking.num_scored :]
        assert [one.rank for one in ranking.items] == list(range(1, 21))
        for one in scored:
            assert replace(one, rank=final[one.item_id].rank) == final[one.item_id]
        for one in rest:
            assert ranking.prior(one) == one.score
            assert one.score == pytest.approx(last.prior(final[one.item_id]), abs=1e-9)
    assert last.tokens_ahead == 0


@pytest.mark.usefixtures("in_small_steps")
def test_no_order_of_candidates_changes_a_bit_of_any_step(reranker: LlmReranker) -> None:
    expected = list(reranker.refine(EXAMPLE.query, EXAMPLE.candidates, num_explained=3))
    generator = np.random.default_rng(3)
    for _ in range(3):
        order = generator.permutation(len(EXAMPLE.candidates))
        shuffled = [EXAMPLE.candidates[place] for place in order]
        found = list(reranker.refine(EXAMPLE.query, shuffled, num_explained=3))
        assert found == expected


@pytest.mark.usefixtures("in_small_steps")
def test_nothing_is_computed_before_it_is_asked_for(
    reranker: LlmReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    inner = packing._run

    def counted(decoder: torch.nn.Module, inputs_TH: torch.Tensor, *more: Any) -> torch.Tensor:
        passes.append(len(inputs_TH))
        return inner(decoder, inputs_TH, *more)

    monkeypatch.setattr(packing, "_run", counted)
    announced = 0
    for number, ranking in enumerate(
        reranker.refine(EXAMPLE.query, EXAMPLE.candidates, num_explained=2)
    ):
        assert len(passes) == number, "one pass between two rankings"
        if number == 0:
            announced = ranking.tokens_ahead
        if ranking.num_scored and announced:
            assert sum(passes) == announced, "the history's pass and the first one"
            announced = 0
    assert len(passes) > 4, "the history, several of candidates, one at least of explanations"


@pytest.mark.usefixtures("in_small_steps")
def test_a_kept_history_is_not_announced_again(adapter: Path, model: RankerModel) -> None:
    keeping = LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=tokens.fuse(adapter, ITEMS).vectors_ND,
        present={},
        titles=model_world.TITLES,
        generation_id="g",
        prefixes=PrefixCache(1 << 24),
    )
    cold = list(keeping.refine(EXAMPLE.query, EXAMPLE.candidates))
    warm = list(keeping.refine(EXAMPLE.query, EXAMPLE.candidates))
    assert warm == cold[1:]
    assert cold[0].tokens_ahead > cold[1].tokens_ahead


def test_an_explanation_is_announced_whole_before_it_begins(
    reranker: LlmReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ranker.llm_reranker.split", partial(packing.split, token_budget=200))
    rankings = list(reranker.refine(EXAMPLE.query, EXAMPLE.candidates, num_explained=20))
    complete = [one for one in rankings if one.num_scored == 20]
    plain = reranker.rerank(EXAMPLE.query, EXAMPLE.candidates)
    assert [replace(one, tokens_ahead=0) for one in complete[:-1]] == [plain] * (len(complete) - 1)
    ahead = [one.tokens_ahead for one in complete]
    assert ahead == sorted(set(ahead), reverse=True)
    assert len(ahead) > 2, "it takes several passes, each of which may be the last"
    assert ahead[-1] == 0


def test_an_item_whose_title_is_cut_says_so(llm_folder: Path) -> None:
    prompt = replace(model_world.CONFIG.prompt, candidates="both", title_tokens=2)
    config = replace(model_world.CONFIG, prompt=prompt)
    torch.manual_seed(0)
    written = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other",),
        config=config,
    ).requires_grad_(False)
    with torch.inference_mode():
        fused = written.fuse(*tensors(ITEMS, slice(None))).flatten(1).numpy()
    first, second, third = (one.item_id for one in EXAMPLE.candidates[:3])
    reading = LlmReranker(
        written,
        item_ids=ITEMS.item_ids,
        tokens_ND=fused,
        present=dict.fromkeys((first, second), (Modality.TEXT,)),
        titles={first: "red", second: "red box of the many", third: "red box of the many"},
        generation_id="g",
    )
    ranking = reading.rerank(Query(history=()), EXAMPLE.candidates[:3])
    assert {one.item_id: one.status for one in ranking.items} == {
        first: Status.OK,
        second: Status.TRUNCATED,
        third: Status.MISSING_VECTORS,
    }
