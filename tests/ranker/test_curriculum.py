"""Which levels there are, and what each of them trains."""

from dataclasses import replace

import pytest

from ranker.config import Lora, RankerConfig, TrainingConfig
from ranker.curriculum import FUSION, PREFERENCE, SINGLE, TEXT, plan

WHOLE = TrainingConfig(
    text_steps=1, single_modality_steps=2, fusion_steps=3, preference_steps=4, loss="pointwise"
)


def config(lora: Lora = "shared", **changes: int) -> RankerConfig:
    whole = RankerConfig(training=replace(WHOLE, **changes))  # type: ignore[arg-type]
    return replace(whole, llm=replace(whole.llm, lora=lora))


def test_the_levels_come_in_tmfs_order_and_pairs_at_last() -> None:
    stages = plan(config())
    assert [(one.name, one.num_steps, one.sees) for one in stages] == [
        (TEXT, 1, "titles"),
        (SINGLE, 2, "single"),
        (FUSION, 3, "all"),
        (PREFERENCE, 4, "all"),
    ]
    assert [one.loss for one in stages] == ["pointwise"] * 3 + ["preference"]


def test_a_level_without_steps_is_left_out_and_the_others_keep_their_number() -> None:
    stages = plan(config(text_steps=0, single_modality_steps=0))
    assert [(one.name, one.level) for one in stages] == [(FUSION, 3), (PREFERENCE, 4)]
    assert [one.name for one in plan(RankerConfig())] == [SINGLE, FUSION]


@pytest.mark.parametrize(
    ("lora", "text", "later"),
    [
        ("shared", ("shared",), ("shared",)),
        ("text", ("text",), ()),
        ("modal", (), ("modal",)),
        ("separate", ("text",), ("modal",)),
        ("joint", ("text", "modal"), ("text", "modal")),
    ],
)
def test_each_variant_of_lora_trains_its_modules_in_its_levels(
    lora: Lora, text: tuple[str, ...], later: tuple[str, ...]
) -> None:
    assert [one.lora for one in plan(config(lora))] == [text, later, later, later]


def test_text_alone_trains_no_fusion_and_what_is_not_read_is_not_trained() -> None:
    first, *others = plan(config())
    assert set(first.parts) == {"behaviors", "evidence"}
    assert all(set(one.parts) == {"behaviors", "evidence", "fusion"} for one in others)
    blind = plan(replace(config(), has_evidence=False))
    assert not any("evidence" in one.parts for one in blind)


@pytest.mark.parametrize("lora", ["text", "separate"])
def test_lora_of_text_alone_asks_for_that_level(lora: Lora) -> None:
    with pytest.raises(ValueError, match=r"text_steps is 0: give that level steps"):
        plan(config(lora, text_steps=0))
    assert plan(config("modal", text_steps=0))


def test_a_level_in_which_nothing_is_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="text_steps to 0"):
        plan(replace(config("modal"), has_evidence=False))
    assert plan(replace(config("modal", text_steps=0), has_evidence=False))
