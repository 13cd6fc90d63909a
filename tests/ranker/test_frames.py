"""Frames are pooled as asked, whatever their order, and each item by itself."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from ranker.config import FramePooling
from ranker.frames import FrameAdapter

FRAMES, BANDS, WIDTH = 5, 8, 6
POOLINGS: tuple[FramePooling, ...] = get_args(FramePooling)


def adapter(pooling: FramePooling, *, seed: int = 0) -> FrameAdapter:
    torch.manual_seed(seed)
    return FrameAdapter(FRAMES * BANDS, FRAMES, WIDTH, pooling)


def sounds(num: int = 4) -> Tensor:
    return torch.randn(num, FRAMES * BANDS, generator=torch.Generator().manual_seed(1))


def scaled(vectors: Tensor) -> Tensor:
    whole = vectors / vectors.square().mean(dim=1, keepdim=True).sqrt()
    return whole.view(-1, FRAMES, BANDS)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_frames_of_an_item_become_one_vector_of_the_fusions_width(pooling: FramePooling) -> None:
    made = adapter(pooling)(sounds())
    assert made.shape == (4, WIDTH)
    assert made.isfinite().all()


def test_the_maximum_and_the_mean_are_taken_over_frames_band_by_band() -> None:
    frames = scaled(sounds())
    torch.testing.assert_close(adapter("max").pool(sounds()), frames.max(dim=1).values)
    torch.testing.assert_close(adapter("mean").pool(sounds()), frames.mean(dim=1))


def test_attention_starts_as_the_mean_and_learns_which_frames_count() -> None:
    model = adapter("attention")
    torch.testing.assert_close(model.pool(sounds()), adapter("mean").pool(sounds()))
    assert model.query_B is not None
    frames = scaled(sounds())
    with torch.no_grad():
        model.query_B[2] = 1000.0  # whatever sounds most in the third band
    loudest = frames[torch.arange(4), frames[:, :, 2].argmax(dim=1)]
    torch.testing.assert_close(model.pool(sounds()), loudest)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_weight_is_learned(pooling: FramePooling) -> None:
    model = adapter(pooling)
    model(sounds()).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_frames_and_the_length_of_a_vector_play_no_part(pooling: FramePooling) -> None:
    model = adapter(pooling)
    backwards = sounds().view(-1, FRAMES, BANDS).flip(1).reshape(4, -1)
    torch.testing.assert_close(model(backwards), model(sounds()))
    torch.testing.assert_close(model(3 * sounds()), model(sounds()))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_item_is_adapted_by_itself(pooling: FramePooling) -> None:
    model = adapter(pooling)
    whole = model(sounds())
    for row in range(4):
        torch.testing.assert_close(model(sounds()[row : row + 1])[0], whole[row])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_of_zeros_gives_numbers_and_gradients_that_are_numbers(pooling: FramePooling) -> None:
    model = adapter(pooling)
    vectors = sounds()
    vectors[1] = 0
    made = model(vectors)
    assert torch.equal(made[1], torch.zeros(WIDTH))
    made.square().sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_sounds_that_are_alike_stay_alike_before_any_training(pooling: FramePooling) -> None:
    torch.manual_seed(0)
    model = FrameAdapter(20 * 40, 20, 64, pooling)
    vectors = torch.randn(60, 1, 40) + 0.3 * torch.randn(60, 20, 40)
    made = model(vectors.flatten(1))
    pooled = torch.nn.functional.layer_norm(model.pool(vectors.flatten(1)), (40,))
    kept = torch.nn.functional.cosine_similarity(made[:30], made[30:])
    true = torch.nn.functional.cosine_similarity(pooled[:30], pooled[30:])
    assert torch.corrcoef(torch.stack([kept, true]))[0, 1] > 0.9


@pytest.mark.parametrize(("dim", "frames"), [(41, 5), (5, 5), (4, 8)])
def test_a_vector_that_is_no_row_of_frames_is_refused(dim: int, frames: int) -> None:
    with pytest.raises(ValueError, match=rf"{dim} dimensions is not {frames} frames"):
        FrameAdapter(dim, frames, WIDTH, "max")
