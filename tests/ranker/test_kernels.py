"""Every way to attention and its log-sum-exp gives what double precision gives."""

import pytest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ranker import kernels  # noqa: E402
from ranker.kernels import causal, exact, fused  # noqa: E402

SCALE = 0.4


def tensors(num_queries: int = 6, num_keys: int = 6, *, heads: int = 4) -> list[Tensor]:
    sizes = (num_queries, num_keys, num_keys)
    return [torch.randn(2, heads, size, 8) for size in sizes]


def by_hand(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> tuple[Tensor, ...]:
    logits = query.double() @ key.double().transpose(-1, -2) * SCALE
    if seen is not None:
        logits = logits.masked_fill(~seen, -torch.inf)
    return logits.softmax(-1) @ value.double(), logits.logsumexp(-1)


def seen_of(is_causal: bool) -> Tensor | None:
    return causal(6, device=torch.device("cpu"))[None, None] if is_causal else None


@pytest.mark.parametrize("is_causal", [False, True])
def test_both_ways_to_a_log_sum_exp_agree(is_causal: bool) -> None:
    given, seen = tensors(), seen_of(is_causal)
    expected = by_hand(*given, seen)
    for found in (
        fused(*given, is_causal=is_causal, scale=SCALE),
        exact(*given, seen, scale=SCALE),
    ):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)


def test_more_keys_than_queries_are_all_seen_where_nothing_is_causal() -> None:
    given = tensors(3, 9)
    out, lse = fused(*given, is_causal=False, scale=SCALE)
    expected = by_hand(*given, None)
    torch.testing.assert_close(out.double(), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse.double(), expected[1], atol=1e-5, rtol=1e-5)


def test_exact_gives_the_same_however_few_queries_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, seen = tensors(), seen_of(True)
    whole = exact(*given, seen, scale=SCALE, softcap=2.0)
    monkeypatch.setattr(kernels, "BLOCK_LOGITS", 2 * 4 * 6 * 4)  # four queries
    for one, other in zip(exact(*given, seen, scale=SCALE, softcap=2.0), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_heads_of_a_group_share_its_keys() -> None:
    query, key, value = tensors()
    shared = exact(query, key[:, :2], value[:, :2], None, scale=SCALE)
    repeated = [one[:, :2].repeat_interleave(2, dim=1) for one in (key, value)]
    for one, other in zip(shared, exact(query, *repeated, None, scale=SCALE), strict=True):
        torch.testing.assert_close(one, other)


def test_who_sees_nothing_gets_zeros_and_no_nan() -> None:
    given = tensors()
    seen = causal(6, device=torch.device("cpu")).tril(-1)[None, None]
    out, lse = exact(*given, seen, scale=SCALE)
    assert torch.equal(out[:, :, 0], torch.zeros(2, 4, 8))
    assert torch.all(lse[:, :, 0] == -torch.inf)
    assert torch.isfinite(out).all()
    none, nothing = exact(given[0], *(one[:, :, :0] for one in given[1:]), None, scale=SCALE)
    assert torch.equal(none, torch.zeros(2, 4, 6, 8))
    assert torch.all(nothing == -torch.inf)


def test_dropout_leaves_weights_out() -> None:
    query, key, _ = tensors()
    ones = torch.ones_like(key)
    kept, _ = exact(query, key, ones, None, scale=SCALE)
    torch.testing.assert_close(kept, ones)
    dropped, _ = exact(query, key, ones, None, scale=SCALE, dropout=0.5)
    assert dropped.std() > 0.1


def test_a_causal_window_holds_so_many_tokens() -> None:
    seen = causal(5, window=2, device=torch.device("cpu"))
    assert seen.sum(dim=1).tolist() == [1, 2, 2, 2, 2]
    assert torch.equal(seen, seen.tril())


@pytest.mark.gpu
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("size", [8, 12, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_device_gives_what_the_processor_gives(
    is_causal: bool, size: int, dtype: torch.dtype
) -> None:
    given = [torch.randn(2, 4, 37, size).to(dtype) for _ in range(3)]
    here = fused(*(one.float() for one in given), is_causal=is_causal, scale=SCALE)
    there = fused(*(one.cuda() for one in given), is_causal=is_causal, scale=SCALE)
    assert there[1].dtype == torch.float32
    bound = 1e-4 if dtype == torch.float32 else 2e-2
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.float().cpu(), atol=bound, rtol=bound)
