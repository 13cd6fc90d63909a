"""An item's tokens come from its own vectors, those that are there, and from nothing else."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from embedders.items import Modality
from ranker.config import FusionConfig
from ranker.frames import FrameAdapter
from ranker.fusion import Fusion

CONFIG = FusionConfig(width=8, heads=2, num_tokens=2)
DIMS = {Modality.TEXT: 6, Modality.AUDIO: 4, Modality.IMAGE: 3, Modality.GRAPH: 5}
HIDDEN = 16


def fusion(config: FusionConfig = CONFIG, *, count: int = 4, seed: int = 0) -> Fusion:
    torch.manual_seed(seed)
    return Fusion(dict(list(DIMS.items())[:count]), hidden_size=HIDDEN, config=config).eval()


def world(model: Fusion, num_items: int = 6) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    vectors = [
        torch.nn.functional.normalize(torch.randn(num_items, DIMS[one], generator=generator))
        for one in model.modalities
    ]
    is_present = torch.rand(num_items, len(vectors), generator=generator) < 0.6
    is_present[0], is_present[1] = True, False
    return vectors, is_present


@pytest.mark.parametrize("num_tokens", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_modalities_becomes_any_number_of_tokens(count: int, num_tokens: int) -> None:
    model = fusion(replace(CONFIG, num_tokens=num_tokens), count=count)
    tokens = model(*world(model))
    assert tokens.shape == (6, num_tokens, HIDDEN)
    assert tokens.isfinite().all()
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(6, num_tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [16, 30, 7])
@pytest.mark.parametrize("num_tokens", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fresh_tokens_hold_every_modality_whatever_divides_what(
    count: int, num_tokens: int, hidden: int
) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, num_tokens=num_tokens)
    model = Fusion(dict(list(DIMS.items())[:count]), hidden_size=hidden, config=config)
    weight = model.project.weight.detach().view(num_tokens, hidden, count, CONFIG.width)
    strength = weight.square().sum(dim=(1, 3))  # of each modality in each token
    held = set(strength.argmax(dim=1).tolist())
    assert len(held) == min(count, num_tokens), "tokens begin with different modalities"
    assert (strength.max(dim=0).values > 0.5).all(), "no modality is left out"


def test_a_token_that_modalities_cannot_share_evenly_has_no_empty_row() -> None:
    torch.manual_seed(0)
    config = FusionConfig(width=32, heads=4, num_tokens=1)
    model = Fusion(dict.fromkeys(DIMS, 24), hidden_size=30, config=config)  # for four modalities
    assert (model.project.weight.detach().square().sum(dim=1) > 0.5).all()


def test_modalities_are_taken_by_name() -> None:
    assert fusion().modalities == (Modality.AUDIO, Modality.GRAPH, Modality.IMAGE, Modality.TEXT)


def test_tokens_of_an_item_depend_on_that_item_alone() -> None:
    model = fusion()
    vectors, is_present = world(model)
    whole = model(vectors, is_present)
    for row in range(len(is_present)):
        alone = model([one[row : row + 1] for one in vectors], is_present[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=1e-5)
    others = [torch.cat([one[:1], torch.randn_like(one[1:])]) for one in vectors]
    torch.testing.assert_close(model(others, is_present)[0], whole[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_vectors_that_are_absent_are_not_looked_at(garbage: float) -> None:
    model = fusion()
    vectors, is_present = world(model)
    spoiled = [
        torch.where(is_present[:, place : place + 1], one, garbage)
        for place, one in enumerate(vectors)
    ]
    clean, other = model(vectors, is_present), model(spoiled, is_present)
    assert torch.equal(clean, other)
    gradients = []
    for tokens in (clean, other):
        model.zero_grad()
        tokens.square().sum().backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    for one, another in zip(*gradients, strict=True):
        assert torch.equal(one, another)


def test_an_absent_vector_is_learned_for_each_modality() -> None:
    model = fusion()
    vectors, is_present = world(model)
    model(vectors, is_present)[1].square().sum().backward()
    assert model.absent_MW.grad is not None
    assert (model.absent_MW.grad.abs().sum(dim=1) > 0).all()


def test_every_present_modality_moves_the_tokens() -> None:
    model = fusion()
    vectors, is_present = world(model)
    whole = model(vectors, is_present)[0]
    for place in range(len(vectors)):
        changed = list(vectors)
        changed[place] = -changed[place]
        assert (model(changed, is_present)[0] - whole).abs().max() > 0.1
        absent = is_present.clone()
        absent[0, place] = False
        assert (model(vectors, absent)[0] - whole).abs().max() > 0.1


@pytest.mark.parametrize("switch", ["has_cross_attention", "has_self_attention"])
def test_each_attention_can_be_left_out_and_then_tokens_differ(switch: str) -> None:
    model = fusion()
    vectors, is_present = world(model)
    ablated = fusion(replace(CONFIG, **{switch: False}))
    ablated.load_state_dict(model.state_dict())
    assert (ablated(vectors, is_present) - model(vectors, is_present)).abs().max() > 1e-3


@pytest.mark.parametrize("has_self", [True, False])
@pytest.mark.parametrize("has_cross", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_unused_gets_no_gradient_and_all_else_does(
    count: int, has_cross: bool, has_self: bool
) -> None:
    config = replace(CONFIG, has_cross_attention=has_cross, has_self_attention=has_self)
    model = fusion(config, count=count)
    model(*world(model)).square().sum().backward()
    idle = {id(weight) for part in model.unused for weight in part.parameters()}
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (id(weight) in idle), name


@pytest.mark.parametrize("absent", list(product([False, True], repeat=4)))
def test_any_subset_of_modalities_is_answered(absent: tuple[bool, ...]) -> None:
    model = fusion()
    vectors, is_present = world(model)
    is_present[:] = ~torch.tensor(absent)
    tokens = model(vectors, is_present)
    assert tokens.isfinite().all()
    is_whole = not any(absent)
    assert (
        tokens[0] - model(vectors, torch.ones_like(is_present))[0]
    ).abs().max() > 0.1 or is_whole


def test_cross_attention_is_skipped_where_there_is_no_text() -> None:
    dims = {Modality.AUDIO: 4, Modality.GRAPH: 5}
    plain = replace(CONFIG, has_cross_attention=False)
    models = []
    for config in (CONFIG, plain):
        torch.manual_seed(0)
        models.append(Fusion(dims, hidden_size=HIDDEN, config=config).eval())
    vectors, is_present = world(models[0])
    assert torch.equal(models[0](vectors, is_present), models[1](vectors, is_present))


def test_text_hears_of_the_others_and_they_of_text_when_only_they_cross() -> None:
    model = fusion(replace(CONFIG, has_self_attention=False), count=2)  # audio and text
    states = torch.randn(3, 2, CONFIG.width)
    before = model._cross(states)
    audio, text = 0, 1
    for changed, heard in ((audio, text), (text, audio)):
        other = states.clone()
        other[:, changed] += 1
        assert (model._cross(other)[:, heard] - before[:, heard]).abs().max() > 1e-3


def test_fresh_tokens_keep_the_cosines_of_the_vectors() -> None:
    torch.manual_seed(0)
    config = FusionConfig(width=32, heads=4, num_tokens=4)
    model = Fusion({one: 24 for one in DIMS}, hidden_size=64, config=config).eval()
    vectors = [torch.nn.functional.normalize(torch.randn(80, 24)) for _ in model.modalities]
    tokens = model(vectors, torch.ones(80, 4, dtype=torch.bool))
    for place, one in enumerate(vectors):  # four tokens: each holds one modality
        kept = torch.nn.functional.cosine_similarity(tokens[:40, place], tokens[40:, place])
        true = torch.nn.functional.cosine_similarity(one[:40], one[40:])
        assert torch.corrcoef(torch.stack([kept, true]))[0, 1] > 0.8


def framed(pooling: str = "max", **frames: int) -> FusionConfig:
    return replace(CONFIG, frames=frames, frame_pooling=pooling)  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_frames_are_pooled_where_the_linear_adapter_stood(pooling: str) -> None:
    model = fusion(framed(pooling, text=2))  # two frames of three bands
    assert [type(one) for one in model.adapters] == [nn.Linear, nn.Linear, nn.Linear, FrameAdapter]
    vectors, is_present = world(model)
    vectors[-1] = vectors[-1] * 0.01
    tokens = model(vectors, is_present)
    assert tokens.isfinite().all()
    frames = vectors[-1].view(-1, 2, 3).flip(1).flatten(1)  # their order says nothing
    torch.testing.assert_close(model([*vectors[:-1], frames], is_present), tokens)
    vectors[-1][:, 0] += 1
    assert (model(vectors, is_present)[0] - tokens[0]).abs().max() > 1e-3
    tokens.square().sum().backward()
    for name, weight in model.adapters[-1].named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_frames_of_a_modality_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames names image, but there are audio, text: leave"):
        fusion(framed(image=3), count=2)


def test_frames_that_do_not_divide_the_vector_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"fusion\.frames\.audio: .* 4 dimensions is not 3 frames"):
        fusion(framed(audio=3))


def test_it_runs_where_it_lies() -> None:
    model = fusion(framed("attention", text=3)).to("meta")
    vectors, is_present = world(model)
    tokens = model([one.to("meta") for one in vectors], is_present.to("meta"))
    assert (tokens.device.type, tokens.shape) == ("meta", (6, 2, HIDDEN))
