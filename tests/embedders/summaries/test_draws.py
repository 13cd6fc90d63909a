"""Sampled tokens fall as often as softmax says, each prompt by its own seed alone."""

import torch

from embedders.summaries.draws import Draws, seed_of

SCORES = torch.tensor([2.0, 1.0, 0.0, -torch.inf])


def drawn(seeds: list[int], *, temperature: float, steps: int = 1) -> torch.Tensor:
    """The best tokens [steps, prompts] of the same scores at every step."""
    draws = Draws(seeds, temperature=temperature)
    scores = SCORES.expand(len(seeds), -1)
    return torch.stack([draws(None, scores).argmax(dim=1) for _ in range(steps)])


def test_tokens_fall_as_often_as_softmax_says() -> None:
    for temperature in (0.5, 1.0, 3.0):
        tokens = drawn(list(range(100)), temperature=temperature, steps=100).flatten()
        found = torch.bincount(tokens, minlength=4) / len(tokens)
        expected = (SCORES / temperature).softmax(dim=0)
        # Five standard deviations of 10,000 draws at most.
        assert (found - expected).abs().max() < 0.025
        assert found[3] == 0


def test_a_prompts_draws_depend_on_no_prompt_beside_it() -> None:
    together = drawn([5, 6, 7], temperature=2.0, steps=50)
    assert torch.equal(together[:, 1], drawn([6], temperature=2.0, steps=50)[:, 0])
    assert torch.equal(together[:, 2], drawn([7, 5], temperature=2.0, steps=50)[:, 0])
    assert not torch.equal(together[:, 0], together[:, 1])


def test_a_low_temperature_comes_to_the_best_token() -> None:
    assert (drawn(list(range(50)), temperature=0.01, steps=20) == 0).all()


def test_seeds_are_those_of_the_facts() -> None:
    assert seed_of(1, "a", ["b"]) == seed_of(1, "a", ["b"])
    assert len({seed_of(n, text) for n in range(10) for text in ("a", "b", "")}) == 30
    assert 0 <= seed_of("") < 1 << 63
