"""A saved ranker scores as it did; a damaged or foreign one is refused, saying what to run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedders.items import Modality
from ranker import llm as llms
from ranker import model as models
from ranker.adapter_facts import FACTS, AdapterError
from ranker.batches import Batches, Drawn
from ranker.calibration import CALIBRATOR, Calibrator
from ranker.config import PromptConfig, RankerConfig
from ranker.llm_reranker import LlmReranker
from ranker.model import LORA, WEIGHTS, RankerModel
from ranker.packing import AnswerHead, score_packed
from ranker.prompts import BEHAVIOR, EVIDENCE, ITEM, STRIDE, WORD
from ranker.tokens import fuse
from tests.ranker import family_world, model_world

ITEMS = model_world.items()
TRAINING = {"hidden_size": 32}


def fresh(llm_folder: Path, config: RankerConfig = model_world.CONFIG) -> RankerModel:
    """Every trained weight is moved from where it starts, LoRA's zeros too."""
    torch.manual_seed(2)
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other", "view", "rate 4.5"),
        config=config,
    )
    model.adapt()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
        model.evidence.slopes_F.normal_()
    return model.eval()


@torch.inference_mode()
def scores(model: RankerModel) -> Tensor:
    """Of four items behind a history, priors included."""
    tokens = model.fuse(*models.tensors(ITEMS, slice(None))).flatten(0, 1)
    evidence, priors = model.evidence(torch.linspace(-1, 1, 40).view(4, 10))
    prompter = model.prompter(ITEMS, model_world.TITLES)
    prefix = model.embed(
        prompter.prefix(model_world.history("item-04", "item-05")), tokens, evidence
    )
    branches = [
        model.embed(prompter.branch(f"item-0{n}", slot=n), tokens, evidence) for n in range(4)
    ]
    head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)
    return priors + score_packed(model.causal_lm, prefix, branches, head)


@pytest.fixture(scope="module")
def saved(llm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """An adapter and the scores of the model that wrote it."""
    folder = tmp_path_factory.mktemp("adapter")
    model = fresh(llm_folder)
    model.save(folder, training=TRAINING)
    return folder, scores(model)


@pytest.fixture
def copy(saved: tuple[Path, Tensor], tmp_path: Path) -> Path:
    """To be damaged."""
    return Path(shutil.copytree(saved[0], tmp_path / "adapter"))


def test_a_loaded_ranker_scores_as_the_one_that_was_saved(saved: tuple[Path, Tensor]) -> None:
    folder, expected = saved
    loaded = models.load(folder)
    assert expected.std() > 0.1
    torch.testing.assert_close(scores(loaded), expected, atol=1e-4, rtol=0)
    assert torch.equal(scores(loaded), scores(models.load(folder))), "every load is the same"


def test_a_loaded_ranker_is_merged_and_frozen(saved: tuple[Path, Tensor]) -> None:
    loaded = models.load(saved[0])
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert not any(one.training for one in loaded.modules())
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert type(loaded.causal_lm).__name__ == "Qwen2ForCausalLM"
    with pytest.raises(TypeError, match="call adapt first"):
        loaded.save(saved[0], training=TRAINING)


def test_loading_leaves_the_callers_random_numbers_alone(saved: tuple[Path, Tensor]) -> None:
    state = torch.get_rng_state()
    models.load(saved[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_only_what_was_trained_is_saved(saved: tuple[Path, Tensor]) -> None:
    size = sum(path.stat().st_size for path in saved[0].rglob("*") if path.is_file())
    assert {path.name for path in saved[0].iterdir()} == {FACTS, LORA, WEIGHTS}
    names = load_file(saved[0] / WEIGHTS).keys()
    assert {name.split(".")[0] for name in names} == {
        "fusion",
        "evidence",
        "behavior_tokens",
        "scale",
    }
    assert size < 300_000


def test_an_llm_that_moved_is_found_where_it_is_now(
    saved: tuple[Path, Tensor], llm_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(llm_folder, tmp_path / "moved")
    torch.testing.assert_close(
        scores(models.load(saved[0], llm=moved)), saved[1], atol=1e-4, rtol=0
    )


def test_an_llm_that_changed_is_refused(
    saved: tuple[Path, Tensor], llm_folder: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(llm_folder, changed)
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"] += 1e-3
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="train again, or bring the former model back"):
        models.load(saved[0], llm=changed)


@pytest.mark.parametrize("name", [WEIGHTS, f"{LORA}/shared/adapter_model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "noise"])
def test_damaged_weights_are_refused(name: str, damage: str, copy: Path) -> None:
    path = copy / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        kept = {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff" * 64 + whole[64:]}
        path.write_bytes(kept[damage])
    with pytest.raises(AdapterError, match=r"is damaged .*run `sommelier train`"):
        models.load(copy)


def test_a_weight_that_is_missing_is_not_left_at_random(copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    del weights["scale"]
    save_file(weights, copy / WEIGHTS)
    with pytest.raises(AdapterError, match="scale"):
        models.load(copy)


def test_a_weight_of_another_shape_or_name_is_refused(copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    save_file({**weights, "fusion.more": torch.zeros(1)}, copy / WEIGHTS)
    with pytest.raises(AdapterError, match=r"fusion\.more"):
        models.load(copy)
    save_file({**weights, "evidence.mean_F": torch.zeros(3)}, copy / WEIGHTS)
    with pytest.raises(AdapterError, match="mean_F"):
        models.load(copy)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")
def test_lora_that_lacks_weights_is_refused(copy: Path) -> None:
    path = copy / LORA / "shared" / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[next(iter(weights))]
    save_file(weights, path)
    with pytest.raises(AdapterError, match="lora"):
        models.load(copy)


def test_what_lora_is_says_our_configuration_alone(copy: Path, saved: tuple[Path, Tensor]) -> None:
    (copy / LORA / "shared" / "adapter_config.json").write_text("{")
    torch.testing.assert_close(scores(models.load(copy)), saved[1], atol=1e-4, rtol=0)


def test_every_linear_layer_of_the_llm_is_adapted(saved: tuple[Path, Tensor]) -> None:
    facts = json.loads((saved[0] / LORA / "shared" / "adapter_config.json").read_text())
    layers = "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj"
    assert {name.rpartition(".")[2] for name in facts["target_modules"]} == set(layers.split())


def test_each_code_is_looked_up_where_its_kind_lives(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    tokens, evidence = torch.randn(9, 32), torch.randn(3, 32)
    codes = np.array([[WORD, BEHAVIOR], [ITEM, EVIDENCE]]) * STRIDE + 2
    embedded = model.embed(codes, tokens, evidence)
    words = model.llm.model.get_input_embeddings().weight
    assert embedded.shape == (2, 2, 32)
    assert torch.equal(embedded[0, 0], words[2])
    assert torch.equal(embedded[0, 1], model.behavior_tokens.weight[2])
    assert torch.equal(embedded[1, 0], tokens[2])
    assert torch.equal(embedded[1, 1], evidence[2] * model.size)


def test_codes_may_have_any_shape(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    tokens, evidence = torch.randn(9, 32), torch.randn(3, 32)
    prompter = model.prompter(ITEMS, model_world.TITLES)
    codes = prompter.prefix(model_world.history("item-00", "item-02"))[:6]
    whole = model.embed(codes, tokens, evidence)
    assert torch.equal(model.embed(codes.reshape(2, 3), tokens, evidence).view(6, 32), whole)
    assert model.embed(codes[:0], tokens, evidence).shape == (0, 32)


def test_mixed_precision_changes_no_type_and_no_prior(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    features = torch.randn(5, 10)
    _, expected = model.evidence(features)
    prompter = model.prompter(ITEMS, model_world.TITLES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = model.fuse(*models.tensors(ITEMS, slice(None)))
        evidence, priors = model.evidence(features)
        embedded = model.embed(prompter.branch("item-05", slot=3), tokens.flatten(0, 1), evidence)
    assert evidence.dtype == torch.bfloat16
    assert embedded.dtype == torch.float32
    assert torch.equal(priors, expected)


def test_everything_of_ours_lies_and_runs_where_the_llm_is(llm_folder: Path) -> None:
    llm = llms.load(llm_folder, config=model_world.CONFIG.llm)
    llm.model.to("meta")  # no numbers, but a device that refuses to mix with the CPU
    model = RankerModel(
        llm, spaces=ITEMS.spaces, behaviors=("other", "view"), config=model_world.CONFIG
    )
    model.adapt()
    assert model.device.type == "meta"
    assert {one.device.type for one in (*model.parameters(), *model.buffers())} == {"meta"}
    tokens = model.fuse(*models.tensors(ITEMS, slice(None)))
    evidence, priors = model.evidence(torch.zeros(4, 10))
    prompter = model.prompter(ITEMS, model_world.TITLES)
    codes = np.concatenate(
        [prompter.prefix(model_world.history("item-01")), prompter.branch("item-02", slot=3)]
    )
    from_cpu = torch.zeros(len(ITEMS) * 2, 32)
    for items in (tokens.flatten(0, 1), from_cpu):
        embedded = model.embed(codes, items, evidence)
        assert (embedded.device.type, embedded.shape) == ("meta", (len(codes), 32))
    hidden = model.causal_lm.get_decoder()(inputs_embeds=embedded[None]).last_hidden_state
    assert {hidden.device.type, tokens.device.type, priors.device.type} == {"meta"}


def test_prompts_are_written_as_served_unless_told_otherwise(llm_folder: Path) -> None:
    config = replace(model_world.CONFIG, prompt=PromptConfig(candidates="both"))
    model = fresh(llm_folder, config)
    words = replace(config.prompt, history="titles", candidates="titles")
    for prompt, kinds in ((None, {WORD, ITEM, EVIDENCE}), (words, {WORD, EVIDENCE})):
        prompter = model.prompter(ITEMS, model_world.TITLES, prompt=prompt)
        codes = prompter.branch("item-05", slot=0)
        assert set((codes // STRIDE).tolist()) == kinds
    assert model.config.prompt == config.prompt


def test_without_evidence_a_score_is_the_llms_answer_alone(
    llm_folder: Path, tmp_path: Path
) -> None:
    config = replace(model_world.CONFIG, has_evidence=False)
    model = fresh(llm_folder, config)
    model.save(tmp_path, training=TRAINING)
    loaded = models.load(tmp_path)
    assert loaded.config == config
    assert loaded.own_state().keys() == fresh(llm_folder).own_state().keys()
    tokens, priors = loaded.evidence(torch.randn(3, 10))
    assert priors.tolist() == [0, 0, 0]
    prompter = loaded.prompter(ITEMS, model_world.TITLES)
    codes = prompter.branch("item-01", slot=None)
    items = torch.randn(len(ITEMS) * 2, 32)
    assert loaded.embed(codes, items, tokens).isfinite().all()
    with pytest.raises(ValueError, match="has_evidence is off: write branches with slot=None"):
        loaded.embed(prompter.branch("item-01", slot=0), items, tokens)


def test_a_calibrator_that_lies_with_the_adapter_is_loaded(copy: Path) -> None:
    assert models.load(copy).calibrator is None
    calibrator = Calibrator(logit_weight=0.5, slope=2.0, intercept=-1.0)
    calibrator.save(copy / CALIBRATOR)
    assert models.load(copy).calibrator == calibrator
    (copy / CALIBRATOR).write_text("{")
    with pytest.raises(AdapterError, match=r"calibrator.json is damaged .*run `sommelier train`"):
        models.load(copy)


def test_frames_are_pooled_by_a_loaded_model_as_by_the_one_that_was_saved(
    llm_folder: Path, tmp_path: Path
) -> None:
    fusion = replace(model_world.CONFIG.fusion, frames={"audio": 2}, frame_pooling="attention")
    model = fresh(llm_folder, replace(model_world.CONFIG, fusion=fusion))
    expected = scores(model)
    model.save(tmp_path, training=TRAINING)
    torch.testing.assert_close(scores(models.load(tmp_path)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": PromptConfig(history="both", candidates="titles", asks_behavior=True)},
        {"prompt": PromptConfig(history="titles", candidates="both"), "has_evidence": False},
        {"llm": replace(model_world.CONFIG.llm, lora="separate")},
        {"fusion": replace(model_world.CONFIG.fusion, num_tokens=5, frames={"audio": 2})},
        {"fusion": replace(model_world.CONFIG.fusion, num_tokens=1, has_cross_attention=False)},
    ],
)
def test_whatever_the_configuration_it_is_served_as_it_is_trained(
    changes: dict[str, Any], llm_folder: Path, tmp_path: Path
) -> None:
    config = replace(model_world.CONFIG, **changes)
    model = fresh(llm_folder, config)
    (example,) = model_world.examples(1)
    example = replace(example, query=replace(example.query, behavior="view"))
    titles = {key: value for key, value in model_world.TITLES.items() if key != "item-07"}
    model.save(tmp_path, training=TRAINING)
    loaded = models.load(tmp_path)
    loaded.asked = ("view",)
    served = LlmReranker(
        loaded,
        item_ids=ITEMS.item_ids,
        tokens_ND=fuse(tmp_path, ITEMS).vectors_ND,
        present={},
        titles=titles,
        generation_id="g-000001",
    )
    ranking = served.rerank(example.query, example.candidates)
    batches = Batches(model, [example], items=ITEMS, titles=titles)
    places = tuple(range(len(example.candidates)))
    drawn = Drawn(sees="all", dropped=(), examples=(example,), picked=(places,))
    with torch.inference_mode():
        expected = batches.run(drawn)[0].tolist()
    scored = {one.item_id: one.score for one in ranking.items}
    found = [scored[one.item_id] for one in example.candidates]
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma", "gemma3"])
def test_soft_tokens_have_the_size_of_words_as_the_llm_reads_them(
    family: str, llm_folder: Path, tmp_path: Path
) -> None:
    folder = family_world.save(family_world.FAMILIES[family], tmp_path, tokenizer=llm_folder)
    llm = llms.load(folder, config=model_world.CONFIG.llm)
    model = RankerModel(
        llm, spaces=ITEMS.spaces, behaviors=("other", "view"), config=model_world.CONFIG
    )
    embed = llm.model.get_input_embeddings()
    words = embed(torch.arange(embed.weight.shape[0]))
    torch.testing.assert_close(model.size.detach(), words.square().mean().sqrt())
    mean = embed(torch.tensor(llm.tokenize("view"))).mean(dim=0)
    torch.testing.assert_close(model.behavior_tokens.weight[1], mean)


@pytest.mark.parametrize("lora", ["shared", "separate"])
def test_lora_stays_beside_weights_of_four_bits(
    lora: str, llm_folder: Path, tmp_path: Path
) -> None:
    llm = replace(model_world.CONFIG.llm, quantization="4bit", lora=lora)
    model = fresh(llm_folder, replace(model_world.CONFIG, llm=llm))
    expected = scores(model)
    model.save(tmp_path, training=TRAINING)
    loaded = models.load(tmp_path)
    assert loaded.lora_names == llm.lora_names
    assert not any(weight.requires_grad for weight in loaded.parameters())
    torch.testing.assert_close(scores(loaded), expected, atol=1e-4, rtol=0)
    loaded.activate(())
    assert (scores(loaded) - expected).abs().max() > 0.05


def test_a_behavior_starts_as_the_mean_of_its_words_and_items_at_their_size(
    llm_folder: Path,
) -> None:
    llm = llms.load(llm_folder, config=model_world.CONFIG.llm)
    model = RankerModel(
        llm, spaces=ITEMS.spaces, behaviors=("other", "rate 4.5"), config=model_world.CONFIG
    )
    words = llm.model.get_input_embeddings().weight
    mean = words[list(llm.tokenize("rate 4.5"))].mean(dim=0)
    torch.testing.assert_close(model.behavior_tokens.weight[1], mean)
    tokens = model.fuse(*models.tensors(ITEMS, slice(None)))
    assert tokens.shape == (41, 2, 32)
    assert 0.9 < tokens.square().mean().sqrt() / words.square().mean().sqrt() < 1.1
    assert model.modalities == (Modality.AUDIO, Modality.GRAPH, Modality.TEXT)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_and_stays_close(
    dtype: str, llm_folder: Path, tmp_path: Path, saved: tuple[Path, Tensor]
) -> None:
    config = replace(model_world.CONFIG, llm=replace(model_world.CONFIG.llm, dtype=dtype))
    folder = shutil.copytree(saved[0], tmp_path / "half")
    facts = json.loads((folder / FACTS).read_text())
    facts["config"]["llm"]["dtype"] = dtype
    (folder / FACTS).write_text(json.dumps(facts))
    half = models.load(folder)
    assert half.config == config
    assert half.causal_lm.dtype == getattr(torch, dtype)
    assert half.fusion.project.weight.dtype == torch.float32
    assert scores(half).dtype == torch.float32
    torch.testing.assert_close(scores(half), saved[1], atol=0.05, rtol=0.05)


def test_vectors_and_presence_are_handed_over_by_modality() -> None:
    vectors, is_present = models.tensors(ITEMS, np.array([1, 40, 2]))
    assert [one.shape for one in vectors] == [(3, 4), (3, 5), (3, 6)]
    assert is_present.tolist() == [[False, True, True], [False] * 3, [True, False, True]]
    is_present[:] = False
    assert ITEMS.is_present_NM[2, 0]


def test_steps_of_the_optimizer_leave_soft_tokens_their_size(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    before = float(model.size.detach())
    with torch.no_grad():
        model.scale -= 20 * 2e-3  # twenty steps of Adam, all in one direction
    assert 0.9 < float(model.size.detach()) / before < 1


def test_soft_tokens_come_back_in_the_very_size_that_they_were_saved_in(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    for factor in (0.3, 0.7, 1.1):
        with torch.no_grad():
            model.scale.fill_(factor)
        size, state = model.size.detach().clone(), model.own_state()
        model.load_own_state(state)
        assert torch.equal(model.size.detach(), size)
        assert torch.equal(model.own_state()["scale"], state["scale"])


@pytest.mark.usefixtures("several_threads")
def test_items_gradients_have_equal_bits_in_every_run_on_several_threads(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    random = torch.Generator().manual_seed(1)
    tokens_RH = torch.randn(40, 32, generator=random)
    places_T = torch.randint(0, 40, (4000,), generator=random)
    codes_T = (ITEM * STRIDE + places_T).numpy()
    weights_TH = torch.randn(4000, 32, generator=random)

    def gradient() -> bytes:
        items_RH = tokens_RH.clone().requires_grad_()
        (model.embed(codes_T, items_RH, torch.zeros(0)) * weights_TH).sum().backward()
        assert items_RH.grad is not None
        return items_RH.grad.numpy().tobytes()

    assert len({gradient() for _ in range(20)}) == 1
