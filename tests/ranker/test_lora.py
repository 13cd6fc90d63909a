"""LoRA modules in one LLM: told apart in training, summed in scoring, merged when served."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ranker import llm as llms
from ranker import lora as loras
from ranker import model as models
from ranker.config import LORA_NAMES, Lora, RankerConfig
from ranker.model import LORA, RankerModel
from tests.ranker import model_world

ITEMS = model_world.items()
IDS = torch.arange(2, 14)[None]


def with_lora(kind: str, **changes: object) -> RankerConfig:
    llm = replace(model_world.CONFIG.llm, lora=kind, **changes)  # type: ignore[arg-type]
    return replace(model_world.CONFIG, llm=llm)


def adapted(llm_folder: Path, kind: str, **changes: object) -> RankerModel:
    """A model whose LoRA is moved from where it starts, each module otherwise."""
    config = with_lora(kind, **changes)
    torch.manual_seed(3)
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other", "view"),
        config=config,
    )
    model.adapt()
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    return model.eval()


@torch.inference_mode()
def logits(model: RankerModel) -> Tensor:
    found: Tensor = model.causal_lm(IDS.to(model.device)).logits.float()
    return found


def trained(model: RankerModel) -> set[str]:
    """What requires a gradient: parts by name, LoRA modules by theirs."""
    found = set()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            parts = name.split(".")
            found.add(parts[-2] if parts[0] == "decoder" else parts[0])
    return found


def test_each_variant_has_the_modules_that_its_name_says() -> None:
    assert set(LORA_NAMES) == set(get_args(Lora))
    assert with_lora("separate").llm.lora_names == with_lora("joint").llm.lora_names
    assert with_lora("shared").llm.lora_names == ("shared",)
    with pytest.raises(ValueError, match="lora is one of shared, text, modal"):
        with_lora("audio")


@pytest.mark.parametrize("kind", get_args(Lora))
def test_every_variant_is_made_saved_and_loaded_merged(
    kind: str, llm_folder: Path, tmp_path: Path
) -> None:
    model = adapted(llm_folder, kind)
    assert model.lora_names == LORA_NAMES[kind]  # type: ignore[index]
    model.save(tmp_path, training={"hidden_size": 32})
    assert sorted(one.name for one in (tmp_path / LORA).iterdir() if one.is_dir()) == sorted(
        model.lora_names
    )
    loaded = models.load(tmp_path)
    assert loaded.lora_names == ()
    assert not any("lora_" in name for name, _ in loaded.named_modules())
    expected = logits(model)
    torch.testing.assert_close(logits(loaded), expected, atol=1e-4, rtol=1e-4)
    model.activate(())
    assert (logits(model) - expected).abs().max() > 0.1, "LoRA moves the LLM"


@pytest.mark.parametrize("kind", ["separate", "joint"])
def test_merged_weights_are_the_llms_own_plus_both_modules(kind: str, llm_folder: Path) -> None:
    config = with_lora(kind).llm
    own = llms.load(llm_folder, config=config).model.state_dict()
    model = adapted(llm_folder, kind)
    state = loras.state(model._adapted())
    factor = config.lora_alpha / config.lora_rank
    path = "base_model.model.model.layers.1.mlp.up_proj"
    products = [
        state[f"{name}.{path}.lora_B.weight"] @ state[f"{name}.{path}.lora_A.weight"]
        for name in ("text", "modal")
    ]
    assert min(float(one.abs().max()) for one in products) > 0.05
    merged = loras.merge(model._adapted()).state_dict()
    expected = own["model.layers.1.mlp.up_proj.weight"] + factor * (products[0] + products[1])
    torch.testing.assert_close(merged["model.layers.1.mlp.up_proj.weight"], expected)


def test_only_active_modules_are_summed(llm_folder: Path) -> None:
    model = adapted(llm_folder, "joint")
    both = logits(model)
    found = {}
    for chosen in [(), ("text",), ("modal",), ("text", "modal"), ("modal", "text")]:
        model.activate(chosen)
        found[chosen] = logits(model)
    assert torch.equal(found["text", "modal"], both)
    assert torch.equal(found["modal", "text"], both), "the order of names changes no bit"
    plain = llms.load(llm_folder, config=with_lora("joint").llm).model
    with torch.inference_mode():
        assert torch.equal(found[()], plain(IDS).logits)
    several = list(found.values())[:4]
    for place, one in enumerate(several):
        for other in several[place + 1 :]:
            assert (one - other).abs().max() > 0.05


def test_a_single_module_is_what_it_would_be_without_the_other(llm_folder: Path) -> None:
    model = adapted(llm_folder, "joint")
    model.activate(["text"])
    alone = adapted(llm_folder, "text")
    state = {k: v for k, v in loras.state(model._adapted()).items() if k.startswith("text.")}
    loras.load_state(alone._adapted(), state)
    assert torch.equal(logits(alone), logits(model))


@pytest.mark.parametrize("moved", ["text", "modal"])
def test_a_frozen_module_stays_under_a_step_and_still_counts(moved: str, llm_folder: Path) -> None:
    model = adapted(llm_folder, "separate")
    model.train_only((), lora=[moved])
    before = {key: value.clone() for key, value in loras.state(model._adapted()).items()}
    scores = logits(model)
    step(model)
    changed = {
        key.partition(".")[0]
        for key, value in loras.state(model._adapted()).items()
        if not torch.equal(value, before[key])
    }
    assert changed == {moved}
    model.activate([moved])
    assert (logits(model) - scores).abs().max() > 0.05, "the frozen one was active"


def step(model: RankerModel) -> None:
    """One of gradient descent, on whatever requires a gradient, and decay on all of that."""
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1)
    model.causal_lm(IDS).logits.square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("parts", "lora", "expected"),
    [
        ((), (), set()),
        (("fusion",), (), {"fusion", "scale"}),
        (("evidence", "behaviors"), ("text",), {"evidence", "behavior_tokens", "text"}),
        (
            ("fusion", "evidence", "behaviors"),
            ("text", "modal"),
            {"fusion", "scale", "evidence", "behavior_tokens", "text", "modal"},
        ),
    ],
)
def test_only_what_is_named_is_trained(
    parts: tuple[str, ...], lora: tuple[str, ...], expected: set[str], llm_folder: Path
) -> None:
    model = adapted(llm_folder, "separate")
    model.train_only(parts, lora=lora)
    assert trained(model) == expected
    model.activate(["modal"])
    assert trained(model) == expected, "what is active is another matter"


def test_the_llms_own_weights_are_never_trained(llm_folder: Path) -> None:
    model = adapted(llm_folder, "joint")
    model.train_only(models.PARTS, lora=model.lora_names)
    before = {key: value.clone() for key, value in model.causal_lm.state_dict().items()}
    step(model)
    for key, value in model.causal_lm.state_dict().items():
        assert torch.equal(value, before[key]) == ("lora_" not in key)


def test_parts_that_the_configuration_leaves_out_are_not_trained(llm_folder: Path) -> None:
    config = model_world.CONFIG
    config = replace(
        config, has_evidence=False, fusion=replace(config.fusion, has_cross_attention=False)
    )
    model = RankerModel(
        llms.load(llm_folder, config=config.llm),
        spaces=ITEMS.spaces,
        behaviors=("other",),
        config=config,
    )
    model.adapt()
    model.train_only(models.PARTS, lora=["shared"])
    assert trained(model) == {"fusion", "scale", "behavior_tokens", "shared"}
    names = {
        name.split(".")[0] for name, one in model.fusion.named_parameters() if one.requires_grad
    }
    assert "self_attention" in names
    assert not {"text_asks", "text_answers"} & names


def test_a_name_that_is_not_there_is_refused_with_those_that_are(llm_folder: Path) -> None:
    model = adapted(llm_folder, "separate")
    with pytest.raises(ValueError, match=r"no LoRA module \['shared'\]; there are text, modal"):
        model.train_only((), lora=["shared"])
    with pytest.raises(ValueError, match=r"no LoRA module \['audio'\]; there are text, modal"):
        model.activate(["audio"])
    with pytest.raises(ValueError, match=r"no part \['scale'\]; there are fusion, evidence"):
        model.train_only(["scale"], lora=())


def test_a_model_without_lora_cannot_be_told_what_to_train(llm_folder: Path) -> None:
    model = RankerModel(
        llms.load(llm_folder, config=model_world.CONFIG.llm),
        spaces=ITEMS.spaces,
        behaviors=("other",),
        config=model_world.CONFIG,
    )
    assert model.lora_names == ()
    for told in (lambda: model.train_only((), lora=()), lambda: model.activate(())):
        with pytest.raises(TypeError, match="call adapt first"):
            told()


def test_weights_of_another_variant_are_refused(llm_folder: Path) -> None:
    both, shared = adapted(llm_folder, "joint"), adapted(llm_folder, "shared")
    with pytest.raises(ValueError, match="LoRA weights that only the model or only the file has"):
        loras.load_state(shared._adapted(), loras.state(both._adapted()))
    state = loras.state(both._adapted())
    state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="LoRA weights that only the model or only the file has"):
        loras.load_state(both._adapted(), state)


def test_a_state_that_is_put_back_scores_as_it_did(llm_folder: Path) -> None:
    model = adapted(llm_folder, "separate")
    state = {key: value.clone() for key, value in loras.state(model._adapted()).items()}
    expected = logits(model)
    step(model)
    assert not torch.equal(logits(model), expected)
    loras.load_state(model._adapted(), state)
    assert torch.equal(logits(model), expected)


def test_what_is_saved_is_in_pefts_own_format(llm_folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = adapted(llm_folder, "separate")
    loras.save(model._adapted(), tmp_path)
    plain = llms.load(llm_folder, config=with_lora("separate").llm).model
    by_peft = peft.PeftModel.from_pretrained(plain, tmp_path / "modal").eval()
    model.activate(["modal"])
    with torch.inference_mode():
        assert torch.equal(by_peft(IDS).logits, logits(model))
    assert all(
        value.isfinite().all()
        for value in load_file(tmp_path / "text" / "adapter_model.safetensors").values()
    )


def test_saved_twice_it_is_the_same_files(llm_folder: Path, tmp_path: Path) -> None:
    model = adapted(llm_folder, "joint")
    for name in ("one", "two"):
        loras.save(model._adapted(), tmp_path / name)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes()
         for path in sorted((tmp_path / name).rglob("*")) if path.is_file()}
        for name in ("one", "two")
    )  # fmt: skip
    assert one == two


def test_in_half_precision_sums_are_rounded_once(llm_folder: Path) -> None:
    model = adapted(llm_folder, "joint", dtype="bfloat16")
    base = {
        key: value.float()
        for key, value in llms.load(llm_folder, config=model.config.llm).model.state_dict().items()
    }
    state, factor = (
        loras.state(model._adapted()),
        model.config.llm.lora_alpha / model.config.llm.lora_rank,
    )
    assert all(value.dtype == torch.float32 for value in state.values())
    path = "model.layers.0.self_attn.q_proj"
    whole = base[f"{path}.weight"]
    for name in model.lora_names:
        key = f"{name}.base_model.model.{path}"
        whole = whole + factor * (state[f"{key}.lora_B.weight"] @ state[f"{key}.lora_A.weight"])
    merged = loras.merge(model._adapted()).state_dict()[f"{path}.weight"]
    assert merged.dtype == torch.bfloat16
    assert (merged == whole.bfloat16()).float().mean() > 0.999
