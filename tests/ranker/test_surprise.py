"""What words surprise by, and its gradients, are those of transformers on prompts one by one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ranker import surprise as surprises
from ranker.batches import Batches, Drawn
from ranker.evidence import features
from ranker.layout import lay_out
from ranker.model import RankerModel, tensors
from ranker.prompts import BEHAVIOR, STRIDE, WORD, Codes
from ranker.surprise import Labels, Spoken, WordHead, labels, surprise
from tests.ranker import family_world, model_world
from tests.ranker.test_batches import EXAMPLES, ITEMS, config, first, fresh

SUMMARIES = {item_id: f"old songs of {item_id[::-1]}" for item_id in model_world.IDS[::2]}
PROMPT = replace(
    model_world.CONFIG.prompt,
    history="both",
    candidates="both",
    history_limit=3,
    summary_tokens=5,
    preference_tokens=6,
)
TOLD = [
    replace(one, query=replace(one.query, text="a blue novel", preference="red wine, old cheese"))
    for one in EXAMPLES[:3]
]
IGNORED = -100  # as transformers' losses have it


def model_of(family: str, llm_folder: Path, folder: Path) -> RankerModel:
    path = llm_folder
    if family != "embedded":
        path = family_world.save(family_world.FAMILIES[family], folder, tokenizer=llm_folder)
    return fresh(path, config(prompt=PROMPT))


def batches_of(model: RankerModel) -> Batches:
    return Batches(model, TOLD, items=ITEMS, titles=model_world.TITLES, summaries=SUMMARIES)


def prompts(model: RankerModel, drawn: Drawn, row: int) -> tuple[Codes, list[Codes]]:
    prompter = model.prompter(ITEMS, model_world.TITLES, summaries=SUMMARIES)
    query = drawn.examples[row].query
    prefix = prompter.prefix(query.history or (), text=query.text, preference=query.preference)
    candidates = [drawn.examples[row].candidates[n] for n in drawn.picked[row]]
    return prefix, [prompter.branch(one.item_id, slot=slot) for slot, one in enumerate(candidates)]


def unpacked(model: RankerModel, drawn: Drawn, row: int, branch: int) -> tuple[Tensor, Tensor]:
    """The surprise at each word of a prompt and at its answer, [T], by the LLM's own forward pass;
    and which of these labels belong to the prefix. What is no word has none."""
    prefix, branches = prompts(model, drawn, row)
    found = [drawn.examples[row].candidates[n] for n in drawn.picked[row]]
    evidence_EH, _ = model.evidence(torch.from_numpy(features(found, model.blocks)))
    items_RH = model.fuse(*tensors(ITEMS, slice(None))).flatten(0, 1)
    answer = model.llm.no if branch else model.llm.yes
    codes = np.concatenate([prefix, branches[branch], [WORD * STRIDE + answer]])
    embedded_TH = model.embed(codes, items_RH, evidence_EH)
    mask_1T = torch.ones(1, len(codes), dtype=torch.long)
    model.causal_lm.set_attn_implementation("eager")
    logits_TV = model.causal_lm(inputs_embeds=embedded_TH[None], attention_mask=mask_1T).logits[0]
    targets = torch.from_numpy(np.where(codes // STRIDE == WORD, codes, IGNORED))
    surprises_T = cross_entropy(
        logits_TV[:-1].float(), targets[1:], ignore_index=IGNORED, reduction="none"
    )
    is_label_T = targets[1:] != IGNORED
    is_prefix_T = torch.arange(1, len(codes)) < len(prefix)
    return surprises_T[is_label_T], is_prefix_T[is_label_T]


def reference(model: RankerModel, drawn: Drawn, kind: Spoken) -> Tensor:
    """Every prompt by itself; a prefix is counted with its first branch alone."""
    losses = []
    for row, picked in enumerate(drawn.picked):
        kept = []
        for branch in range(len(picked)):
            found, is_prefix = unpacked(model, drawn, row, branch)
            if kind == "answer":
                kept.append(found[-1:])
            else:
                kept.append(found if branch == 0 else found[~is_prefix])
        losses.append(torch.cat(kept).mean())
    return torch.stack(losses).mean()


def gradients(model: RankerModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {name: one.clone() for name, one in found.items()}


def assert_alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    largest = max(float(one.abs().max()) for one in expected.values())
    assert largest > 1e-3, "a loss without a slope would show nothing"
    for name, gradient in expected.items():
        other = found.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(other, gradient, atol=2e-5 * largest, rtol=2e-3, msg=name)


@pytest.mark.parametrize("kind", ["answer", "sequence"])
@pytest.mark.parametrize("family", ["embedded", "llama", "gemma2"])
def test_loss_and_gradients_are_those_of_prompts_one_by_one(
    family: str, kind: Spoken, llm_folder: Path, tmp_path: Path
) -> None:
    model = model_of(family, llm_folder, tmp_path)
    drawn = first(4, examples=TOLD)
    loss = batches_of(model).surprise(drawn, kind)
    found = gradients(model, loss)
    expected = reference(model, drawn, kind)
    torch.testing.assert_close(loss, expected, atol=2e-5, rtol=2e-5)
    assert_alike(found, gradients(model, expected))


def test_of_one_branch_sequence_is_the_loss_that_transformers_computes(
    llm_folder: Path, tmp_path: Path
) -> None:
    """As the paper trains: one candidate a prompt, the prompt's words are labels, too."""
    model = model_of("llama", llm_folder, tmp_path)
    drawn = first(1, examples=TOLD[:1])
    with torch.no_grad():
        loss = batches_of(model).surprise(drawn, "sequence")
        prefix, (branch,) = prompts(model, drawn, 0)
        codes = np.concatenate([prefix, branch, [WORD * STRIDE + model.llm.yes]])
        found = features(drawn.examples[0].candidates[:1], model.blocks)
        evidence_EH, _ = model.evidence(torch.from_numpy(found))
        items_RH = model.fuse(*tensors(ITEMS, slice(None))).flatten(0, 1)
        model.causal_lm.set_attn_implementation("eager")
        targets = torch.from_numpy(np.where(codes // STRIDE == WORD, codes, IGNORED))
        assert 0 < int((targets == IGNORED).sum()) < len(targets)
        theirs = model.causal_lm(
            inputs_embeds=model.embed(codes, items_RH, evidence_EH)[None], labels=targets[None]
        ).loss
    torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=1e-5)


def test_labels_are_words_where_they_follow_and_the_answers() -> None:
    word, behavior = WORD * STRIDE, BEHAVIOR * STRIDE
    prefix = np.array([word + 5, behavior + 1, word + 6])
    branches = [np.array([word + 7, behavior, word + 8]), np.array([word + 7, word + 9])]
    layout = lay_out([prefix, prefix[:1]], [branches, branches])
    found = labels(layout, "sequence", yes=20, no=21)
    columns = (found.rows_L, found.places_L, found.words_L)
    told = list(zip(*(one.tolist() for one in columns), strict=True))
    first_row = [(1, 6), (2, 7), (4, 8), (5, 20), (6, 9), (7, 21)]
    second_row = [(0, 7), (2, 8), (3, 20), (4, 9), (5, 21)]
    assert told == [(0, *one) for one in first_row] + [(1, *one) for one in second_row]
    shares = dict(zip(told, found.shares_L.tolist(), strict=True))
    assert shares[0, 2, 7] == pytest.approx(2 / 7), "both branches begin with it"
    assert shares[0, 1, 6] == pytest.approx(1 / 7)
    assert shares[1, 0, 7] == pytest.approx(2 / 6), "padding is no label"
    found = labels(layout, "answer", yes=20, no=21)
    assert found.words_L.tolist() == [20, 21, 20, 21]
    assert found.places_L.tolist() == [5, 7, 3, 5]
    assert found.shares_L.tolist() == [0.5] * 4


@pytest.mark.parametrize("kind", ["answer", "sequence"])
def test_few_logits_are_held_at_once_and_nothing_changes(
    kind: Spoken, llm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("embedded", llm_folder, tmp_path)
    batches, drawn = batches_of(model), first(4, examples=TOLD)
    whole = batches.surprise(drawn, kind)
    expected = gradients(model, whole)
    sizes: list[int] = []
    project: Callable[..., Tensor] = surprises.linear

    def counted(*given: Tensor) -> Tensor:
        logits = project(*given)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(surprises, "linear", counted)
    num_words = len(model.llm.model.get_output_embeddings().weight)
    batches._word_head = WordHead(model.llm.model, limit=3 * num_words)
    loss = batches.surprise(drawn, kind)
    assert max(sizes) == 3 * num_words
    num_parts = len(sizes)
    assert num_parts >= 4
    found = gradients(model, loss)
    assert len(sizes) == 2 * num_parts, "logits are computed again, not kept"
    torch.testing.assert_close(loss, whole, atol=1e-6, rtol=1e-6)
    assert_alike(found, expected)


@pytest.mark.parametrize("kind", ["answer", "sequence"])
def test_a_batch_is_the_weighted_mean_of_its_slices(
    kind: Spoken, llm_folder: Path, tmp_path: Path
) -> None:
    batches = batches_of(model_of("embedded", llm_folder, tmp_path))
    drawn = first(4, examples=TOLD)
    with torch.no_grad():
        parts = [drawn.part(slice(0, 2)), drawn.part(slice(2, 3))]
        summed = sum(batches.surprise(part, kind) * len(part) for part in parts)
        whole = batches.surprise(drawn, kind)
    torch.testing.assert_close(summed / len(drawn), whole, atol=1e-6, rtol=1e-6)


def test_answers_are_learned_without_the_prior(llm_folder: Path, tmp_path: Path) -> None:
    model = model_of("embedded", llm_folder, tmp_path)
    batches, drawn = batches_of(model), first(4, examples=TOLD)
    with torch.no_grad():
        before, scores = batches.surprise(drawn, "answer"), batches.run(drawn)
        model.evidence.slopes_F.add_(1.0)
        assert not torch.equal(batches.run(drawn), scores)
        assert torch.equal(batches.surprise(drawn, "answer"), before)


def test_half_precision_of_the_llm_is_as_near_as_its_numbers(llm_folder: Path) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        whole = config(prompt=PROMPT)
        model = fresh(llm_folder, replace(whole, llm=replace(whole.llm, dtype=dtype)))
        with torch.no_grad():
            losses.append(batches_of(model).surprise(first(4, examples=TOLD), "sequence"))
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[1], losses[0], atol=0.05, rtol=0)


@pytest.mark.usefixtures("several_threads")
def test_gradients_have_equal_bits_in_every_run_on_several_threads(
    llm_folder: Path, tmp_path: Path
) -> None:
    head = WordHead(model_of("embedded", llm_folder, tmp_path).llm.model)
    random = np.random.default_rng(1)
    hidden_BTH = torch.from_numpy(random.normal(size=(2, 20, 32)).astype(np.float32))
    found = Labels(
        rows_L=random.integers(0, 2, 3000),
        places_L=random.integers(0, 20, 3000),
        words_L=random.integers(0, 200, 3000),
        shares_L=random.random(3000, dtype=np.float32),
    )

    def gradient() -> bytes:
        given_BTH = hidden_BTH.clone().requires_grad_()
        surprise(given_BTH, found, head).backward()
        assert given_BTH.grad is not None
        return given_BTH.grad.numpy().tobytes()

    assert len({gradient() for _ in range(10)}) == 1
