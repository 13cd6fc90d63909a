"""One pass over the examples finds what names an adapter, and what it begins with."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ranker.config import RankerConfig
from ranker.evidence import features
from ranker.examples import Example
from ranker.survey import fingerprint, survey, unmasked
from tests.ranker import model_world

EXAMPLES = model_world.examples(4)
BLOCKS = ("audio", "graph", "text")
OTHERS = [one.item_id for one in EXAMPLES[0].candidates if one.item_id not in EXAMPLES[0].chosen]


class Stored(Sequence[Example]):
    """Examples that can be counted and asked for, one at a time, and nothing else."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Example:  # type: ignore[override]
        self.asked.append(place)
        return self.examples[place]


def with_first(**changes: object) -> list[Example]:
    return [replace(EXAMPLES[0], **changes), *EXAMPLES[1:]]  # type: ignore[arg-type]


def asking(behavior: str | None) -> list[Example]:
    return with_first(query=replace(EXAMPLES[0].query, behavior=behavior))


def test_each_example_is_asked_for_once() -> None:
    stored = Stored(EXAMPLES)
    found = survey(stored, blocks=BLOCKS, config=RankerConfig())
    assert stored.asked == [0, 1, 2, 3]
    assert found.fingerprint == fingerprint(EXAMPLES, blocks=BLOCKS)
    assert len(found.features) == len(found.is_chosen) == 4
    np.testing.assert_array_equal(found.features[1], features(EXAMPLES[1].candidates, BLOCKS))


def test_whatever_is_read_of_an_example_is_in_the_fingerprint() -> None:
    first = EXAMPLES[0].candidates[0]
    cosines = {**first.evidence, "audio": 0.123}
    rest = EXAMPLES[0].candidates[1:]
    changed: list[list[Example]] = [
        EXAMPLES,
        EXAMPLES[::-1],
        EXAMPLES[:3],
        asking("purchase"),
        with_first(masked=frozenset(OTHERS[:1])),
        with_first(chosen=EXAMPLES[0].chosen | {OTHERS[0]}),
        with_first(candidates=(replace(first, evidence=cosines), *rest)),
        with_first(candidates=(replace(first, support={"audio": 0.9}), *rest)),
        with_first(weights={**EXAMPLES[0].weights, "audio": 0.7}),
        with_first(query=replace(EXAMPLES[0].query, text="for a rainy evening")),
    ]
    prints = [fingerprint(one, blocks=BLOCKS) for one in changed]
    assert len(set(prints)) == len(changed)


def test_masked_candidates_take_no_part_but_chosen_ones_always_do() -> None:
    chosen = sorted(EXAMPLES[0].chosen)
    masked = with_first(masked=frozenset([*OTHERS[:2], chosen[0]]))
    kept = [masked[0].candidates[n].item_id for n in unmasked(masked[0])]
    assert set(OTHERS[:2]).isdisjoint(kept)
    assert chosen[0] in kept
    found = survey(masked, blocks=BLOCKS, config=RankerConfig())
    assert len(found.features[0]) == len(EXAMPLES[0].candidates) - 2
    assert found.is_chosen[0].sum() == len(EXAMPLES[0].chosen)


def test_behaviors_that_are_asked_about_have_words_only_where_one_asks() -> None:
    asked = RankerConfig(prompt=replace(RankerConfig().prompt, asks_behavior=True))
    examples = asking("purchase")
    assert "purchase" in survey(examples, blocks=BLOCKS, config=asked).behaviors
    assert "purchase" not in survey(examples, blocks=BLOCKS, config=RankerConfig()).behaviors


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (replace(EXAMPLES[0], chosen=frozenset()), "has 0 chosen of"),
        (replace(EXAMPLES[0], masked=frozenset(OTHERS)), r"has \d+ chosen of \d+ candidates"),
    ],
)
def test_an_example_that_tells_nothing_apart_is_named(example: Example, told: str) -> None:
    with pytest.raises(ValueError, match=rf"example 2 \(user 'user-0'\) {told}"):
        survey([*EXAMPLES[:2], example], blocks=BLOCKS, config=RankerConfig())
