"""What is trained is what is served: a batch's scores are the reranker's, branch by branch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from ranker import llm as llms
from ranker.batches import Batches, Drawn
from ranker.config import RankerConfig, Written
from ranker.curriculum import Sees, Stage
from ranker.evidence import features, without
from ranker.examples import Example
from ranker.layout import lay_out
from ranker.llm_reranker import LlmReranker
from ranker.model import RankerModel, tensors
from ranker.prompts import BEHAVIOR, EVIDENCE, ITEM, STRIDE, WORD, Codes, vocabulary
from retrieval.concatenated import SEQUENCE, ItemVectors
from tests.ranker import model_world

EXAMPLES = model_world.examples(6)
ITEMS = model_world.items()


def fresh(llm_folder: Path, config: RankerConfig = model_world.CONFIG) -> RankerModel:
    """An adapted model whose LoRA is not the zero it starts as."""
    torch.manual_seed(0)
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=vocabulary(event for one in EXAMPLES for event in one.query.history or ()),
        config=config,
    )
    model.adapt()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    return model.eval()


def batches_of(model: RankerModel, count: int = len(EXAMPLES)) -> Batches:
    return Batches(model, EXAMPLES[:count], items=ITEMS, titles=model_world.TITLES)


def stage(sees: Sees = "all") -> Stage:
    return Stage(
        name="a stage",
        level=3,
        num_steps=9,
        sees=sees,
        parts=("fusion", "evidence", "behaviors"),
        lora=("shared",),
        loss="listwise",
    )


def first(count: int, *, examples: list[Example] = EXAMPLES, sees: Sees = "all") -> Drawn:
    """The first candidates of every list."""
    picked = tuple(range(count))
    return Drawn(sees=sees, dropped=(), examples=tuple(examples), picked=(picked,) * len(examples))


def reranker_of(model: RankerModel, *, summaries: dict[str, str] | None = None) -> LlmReranker:
    with torch.inference_mode():
        tokens = model.fuse(*tensors(ITEMS, slice(None))).flatten(1).numpy()
    return LlmReranker(
        model,
        item_ids=ITEMS.item_ids,
        tokens_ND=tokens,
        present={},
        titles=model_world.TITLES,
        summaries=summaries,
        generation_id="g",
    )


def config(**changes: object) -> RankerConfig:
    fusion = replace(model_world.CONFIG.fusion, modality_dropout=0.0)
    return replace(model_world.CONFIG, fusion=fusion, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["tokens", "both"])
def test_the_trained_logits_are_the_served_scores(written: Written, llm_folder: Path) -> None:
    prompt = replace(
        model_world.CONFIG.prompt, history=written, candidates=written, history_limit=4
    )
    model = fresh(llm_folder, config(prompt=prompt))
    batches = batches_of(model)
    drawn = first(5)
    with torch.no_grad():
        logits = batches.run(drawn)
    served = reranker_of(model)
    spread = []
    for row, (example, rows) in enumerate(zip(EXAMPLES, drawn.picked, strict=True)):
        ranking = served.rerank(example.query, [example.candidates[place] for place in rows])
        scores = {one.item_id: one.score for one in ranking.items}
        expected = torch.tensor([scores[example.candidates[place].item_id] for place in rows])
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=0)
        spread += [one.logit for one in ranking.items]
    assert np.std(spread) > 0.01, "the LLM must tell candidates apart for this to say anything"


def test_what_a_query_says_in_words_is_read_in_training_as_in_serving(llm_folder: Path) -> None:
    model = fresh(llm_folder, config())
    silent = EXAMPLES[0]
    asked = replace(silent, query=replace(silent.query, text="an old blue novel"))
    with torch.no_grad():
        logits = batches_of(model).run(first(5, examples=[silent, asked]))
    assert (logits[0] - logits[1]).abs().min() > 1e-4
    ranking = reranker_of(model).rerank(asked.query, asked.candidates[:5])
    scores = {one.item_id: one.score for one in ranking.items}
    expected = torch.tensor([scores[one.item_id] for one in asked.candidates[:5]])
    torch.testing.assert_close(logits[1], expected, atol=1e-4, rtol=0)


def test_texts_that_were_written_are_read_in_training_as_in_serving(llm_folder: Path) -> None:
    prompt = replace(
        model_world.CONFIG.prompt,
        candidates="both",
        history_limit=4,
        summary_tokens=6,
        preference_tokens=5,
    )
    model = fresh(llm_folder, config(prompt=prompt))
    summaries = {item_id: f"old songs of {item_id[::-1]}" for item_id in model_world.IDS[::2]}
    silent = replace(EXAMPLES[0], query=replace(EXAMPLES[0].query, preference=""))
    told = replace(silent, query=replace(silent.query, preference="young piano, never cheese"))
    batches = Batches(model, EXAMPLES, items=ITEMS, titles=model_world.TITLES, summaries=summaries)
    drawn = first(5, examples=[silent, told])
    with torch.no_grad():
        logits, without_summaries = batches.run(drawn), batches_of(model).run(drawn)
    assert (logits[0] - logits[1]).abs().min() > 1e-4
    written = torch.tensor([one.item_id in summaries for one in silent.candidates[:5]])
    assert written.any()
    assert ((logits[0] - without_summaries[0]).abs() > 1e-4).tolist() == written.tolist()
    served = reranker_of(model, summaries=summaries)
    for row, example in enumerate((silent, told)):
        ranking = served.rerank(example.query, example.candidates[:5])
        scores = {one.item_id: one.score for one in ranking.items}
        expected = torch.tensor([scores[one.item_id] for one in example.candidates[:5]])
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=0)


def test_a_drawn_batch_is_one_chosen_candidate_and_others(llm_folder: Path) -> None:
    model = fresh(llm_folder, config())
    served = reranker_of(model)
    scores = {}
    for example in EXAMPLES:
        for one in served.rerank(example.query, example.candidates).items:
            is_chosen = one.item_id in example.chosen
            scores.setdefault(is_chosen, []).append(one.score)
    with torch.inference_mode():
        batches = batches_of(model)
        logits = batches.run(batches.draw(np.random.default_rng(1), stage()))
    training = model.config.training
    assert logits.shape == (training.batch_size, 1 + training.num_negatives)
    for is_chosen, drawn in ((True, logits[:, 0]), (False, logits[:, 1:].flatten())):
        known = torch.tensor(scores[is_chosen])
        assert (drawn[:, None] - known).abs().min(dim=1).values.max() < 1e-4


def test_equal_generators_draw_equal_batches(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    batches = batches_of(model)
    drawn = []
    for seed in (5, 5, 6):
        batches.queue = []
        rng = np.random.default_rng(seed)
        with torch.inference_mode():
            runs = [batches.run(batches.draw(rng, stage("single"))) for _ in range(3)]
        drawn.append(torch.stack(runs))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_every_example_is_drawn_once_before_any_is_drawn_again(llm_folder: Path) -> None:
    batches = batches_of(fresh(llm_folder))
    rng = np.random.default_rng(0)
    for _ in range(3):
        drawn = [batches._next(rng) for _ in EXAMPLES]
        assert sorted(drawn) == list(range(len(EXAMPLES)))


def test_few_others_repeat_so_that_all_batches_are_of_one_shape() -> None:
    (example,) = model_world.examples(1, limit=12)
    is_chosen = [one.item_id in example.chosen for one in example.candidates]
    rng = np.random.default_rng(0)
    drawn = Batches._pick(example, rng, 30)
    assert len(drawn) == 31
    assert is_chosen[drawn[0]]
    assert not any(is_chosen[place] for place in drawn[1:])
    few = Batches._pick(example, rng, 3)[1:]
    assert len(set(few)) == 3


def test_what_is_dropped_is_dropped_from_fusion_evidence_and_score_alike(llm_folder: Path) -> None:
    """A batch without sound is a batch of a world in which nothing sounds."""
    model = fresh(llm_folder, config())
    batches = batches_of(model)
    silent = replace(ITEMS, is_present_NM=ITEMS.is_present_NM & [[False, True, True]])
    deaf = Batches(model, EXAMPLES, items=silent, titles=model_world.TITLES)
    heard = first(5, examples=EXAMPLES[:1])
    unheard = replace(heard, dropped=(Modality.AUDIO,))
    # Where nothing sounds, retrieval found nothing by sound either.
    told = [
        replace(
            one,
            score=one.score - EXAMPLES[0].weights[Modality.AUDIO] * one.evidence.get("audio", 0.0),
            evidence={name: cosine for name, cosine in one.evidence.items() if name != "audio"},
            support={name: cosine for name, cosine in one.support.items() if name != "audio"},
        )
        for one in EXAMPLES[0].candidates
    ]
    silent_list = replace(EXAMPLES[0], candidates=tuple(told))
    with torch.inference_mode():
        dropped = batches.run(unheard)
        absent = deaf.run(replace(heard, examples=(silent_list,)))
        heard_scores = batches.run(heard)
    torch.testing.assert_close(dropped, absent, atol=1e-5, rtol=0)
    assert not torch.allclose(dropped, heard_scores, atol=1e-3)
    assert ITEMS.is_present_NM[0, 0], "the items themselves keep what a batch drops"


def test_of_all_modalities_at_least_one_is_kept(llm_folder: Path) -> None:
    fusion = replace(model_world.CONFIG.fusion, modality_dropout=0.9)
    batches = batches_of(fresh(llm_folder, replace(model_world.CONFIG, fusion=fusion)))
    rng = np.random.default_rng(0)
    assert {len(batches._drop(rng, "all")) for _ in range(60)} == {0, 1, 2}
    single = [batches._drop(rng, "single") for _ in range(60)]
    assert {len(one) for one in single} == {2}
    assert len(set(single)) == 3, "each modality has its turn"


def test_gradients_reach_everything_that_is_trained_and_nothing_else(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    model.train()
    batches = batches_of(model)
    rng = np.random.default_rng(0)
    for _ in range(3):
        batches.run(batches.draw(rng, stage())).square().sum().backward()
    for name, weight in model.named_parameters():
        if "lora_" in name:
            assert weight.grad is not None, name
            assert weight.grad.any(), name
        elif name.startswith("decoder."):
            assert not weight.requires_grad, name
        else:
            assert weight.grad is not None, name


def test_a_branch_sees_the_prefix_and_itself_and_padding_sees_nobody() -> None:
    prefixes = [np.arange(3), np.arange(1)]
    branches = [[np.arange(2), np.arange(1)], [np.arange(2), np.arange(1)]]
    layout = lay_out(prefixes, branches)
    assert layout.codes_BT.shape == (2, 6)
    assert layout.positions_BT.tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 2, 1, 0, 0]]
    assert layout.ends_BN.tolist() == [[4, 5], [2, 3]]
    assert layout.before_BT.tolist() == [[-1, 0, 1, 2, 3, 2], [-1, 0, 1, 0, -1, -1]]
    expected = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    np.testing.assert_array_equal(layout.mask_BTT[0], np.array(expected, dtype=bool))
    shorter = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(layout.mask_BTT[1], np.array(shorter, dtype=bool))


def with_sequence() -> ItemVectors:
    """The world, with one more block that no modality makes."""
    space = Space(modality=None, encoder=SEQUENCE, revision="1", dim=3)
    vectors_ND = normalize(np.random.default_rng(3).normal(size=(40, 3)))
    return ITEMS.joined(Embeddings(space=space, item_ids=model_world.IDS, vectors_ND=vectors_ND))


def test_a_networks_block_is_told_of_but_not_fused(llm_folder: Path) -> None:
    items = with_sequence()
    model = RankerModel(
        llms.load(llm_folder, config=model_world.CONFIG.llm),
        spaces=items.spaces,
        behaviors=("other", "view", "rate 4.5"),
        config=config(),
    )
    model.adapt()
    model.eval()
    assert model.blocks == ("audio", "graph", "sequence", "text")
    assert model.modalities == ITEMS.modalities
    told = [
        replace(
            one,
            candidates=tuple(
                replace(each, evidence={**each.evidence, SEQUENCE: 0.5}) for each in one.candidates
            ),
        )
        for one in EXAMPLES
    ]
    assert features(told[0].candidates, model.blocks).shape[1] == 3 * 4 + 1
    batches = Batches(model, told, items=items, titles=model_world.TITLES)
    seen: tuple[Sees, ...] = ("titles", "single", "all")
    for sees in seen:
        logits = batches.run(batches.draw(np.random.default_rng(0), stage(sees)))
        assert torch.isfinite(logits).all()
    tokens = model.fuse(*tensors(items, slice(None)))
    torch.testing.assert_close(tokens, model.fuse(*tensors(ITEMS, slice(None))))


def test_masked_candidates_are_never_drawn() -> None:
    (example,) = model_world.examples(1, limit=12)
    others = [one.item_id for one in example.candidates if one.item_id not in example.chosen]
    masked = replace(example, masked=frozenset(others[1:]))
    drawn = Batches._pick(masked, np.random.default_rng(0), 30)
    assert {example.candidates[place].item_id for place in drawn[1:]} == {others[0]}


def test_parts_of_a_batch_are_scored_as_the_whole(llm_folder: Path) -> None:
    batches = batches_of(fresh(llm_folder))
    drawn = batches.draw(np.random.default_rng(2), stage())
    assert len(drawn) == model_world.CONFIG.training.batch_size
    with torch.no_grad():
        whole = batches.run(drawn)
        parts = [batches.run(drawn.part(slice(row, row + 3))) for row in range(0, len(drawn), 3)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def codes_of(batches: Batches, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The kinds of codes that the LLM would read."""
    seen: list[Codes] = []
    model = batches._model
    embed = model.embed

    def watched(codes: Codes, items: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
        seen.append(codes)
        return embed(codes, items, evidence)

    monkeypatch.setattr(model, "embed", watched)
    with torch.no_grad():
        batches.run(drawn)
    monkeypatch.undo()
    return {int(kind) for codes in seen for kind in np.unique(codes // STRIDE)}


def test_text_alone_is_words_behaviors_and_what_the_text_block_found(
    llm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh(llm_folder, config())
    batches = batches_of(model)
    drawn = first(4, sees="titles")
    assert codes_of(batches, drawn, monkeypatch) == {WORD, BEHAVIOR, EVIDENCE}
    assert ITEM in codes_of(batches, first(4), monkeypatch)
    found = features(EXAMPLES[0].candidates[:4], model.blocks)
    told = without(found, model.blocks, ["audio", "graph"], EXAMPLES[0].weights)
    with torch.no_grad():
        priors, logits = batches.answers(drawn)
        expected = model.evidence(torch.from_numpy(told))[1]
    torch.testing.assert_close(priors[0], expected, atol=1e-6, rtol=0)
    other = {item_id: title.replace("red", "blue") for item_id, title in model_world.TITLES.items()}
    renamed = Batches(model, EXAMPLES, items=ITEMS, titles=other)
    with torch.no_grad():
        assert not torch.allclose(renamed.answers(drawn)[1], logits, atol=1e-4)
        assert torch.equal(renamed.run(first(4)), batches.run(first(4)))


def test_without_evidence_there_is_no_prior_and_no_token(
    llm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(fresh(llm_folder, config(has_evidence=False)))
    assert EVIDENCE not in codes_of(batches, first(4), monkeypatch)
    with torch.no_grad():
        priors, logits = batches.answers(first(4))
    assert not priors.any()
    assert logits.std() > 0.001


def test_the_behavior_of_an_example_is_asked_in_every_branch(llm_folder: Path) -> None:
    prompt = replace(model_world.CONFIG.prompt, asks_behavior=True)
    batches = batches_of(fresh(llm_folder, config(prompt=prompt)))
    silent = batches_of(fresh(llm_folder, config()))
    asked = [replace(one, query=replace(one.query, behavior="view")) for one in EXAMPLES]
    with torch.no_grad():
        anything = batches.run(first(4))
        viewed = batches.run(first(4, examples=asked))
        assert torch.equal(silent.run(first(4)), silent.run(first(4, examples=asked)))
    assert ((anything - viewed).abs() > 1e-6).all()
