"""What an adapter says of itself is read without its weights, or refused, saying what to run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedders.texts import TextKind, TextSource
from ranker.adapter_facts import FACTS, AdapterError, AdapterFacts, read_facts
from ranker.config import FusionConfig, LlmConfig, PromptConfig, RankerConfig
from tests.ranker.model_world import AUDIO, TEXT

GIVEN = AdapterFacts(
    spaces=(AUDIO, TEXT),
    behaviors=("other", "rate 4.5", "view"),
    llm="somebody/model",
    llm_revision="1234567",
    config=RankerConfig(
        fusion=FusionConfig(frames={"audio": 2}, frame_pooling="mean"),
        llm=LlmConfig(lora="separate", quantization="4bit"),
        prompt=PromptConfig(history="titles", candidates="both", asks_behavior=True),
        has_evidence=False,
    ),
    training={"hidden_size": 32, "losses": {"fusion": 0.5}},
    asked=("view",),
    texts=(TextSource(kind=TextKind.SUMMARY, writer="somebody/writer", revision="1", prompt="p"),),
)


def test_facts_are_read_as_they_were_saved(tmp_path: Path) -> None:
    GIVEN.save(tmp_path)
    assert read_facts(tmp_path) == GIVEN
    assert [path.name for path in tmp_path.iterdir()] == [FACTS]


def test_facts_from_before_texts_were_read_are_those_of_an_adapter_that_reads_none(
    tmp_path: Path,
) -> None:
    GIVEN.save(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    del facts["texts"]
    for name in ("summary_tokens", "preference_tokens"):
        del facts["config"]["prompt"][name]
    (tmp_path / FACTS).write_text(json.dumps(facts))
    assert read_facts(tmp_path) == replace(GIVEN, texts=())


def test_equal_facts_are_equal_files(tmp_path: Path) -> None:
    GIVEN.save(tmp_path)
    first = (tmp_path / FACTS).read_bytes()
    replace(GIVEN, training=dict(reversed(GIVEN.training.items()))).save(tmp_path)
    assert (tmp_path / FACTS).read_bytes() == first


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"spaces": 3}', "\x00"])
def test_damaged_facts_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(AdapterError, match=r"holds no adapter .*run `sommelier train`"):
        read_facts(tmp_path)


def test_facts_that_no_configuration_allows_are_refused(tmp_path: Path) -> None:
    GIVEN.save(tmp_path)
    text = (tmp_path / FACTS).read_text().replace('"separate"', '"both"')
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(AdapterError, match="holds no adapter"):
        read_facts(tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"holds no adapter .*run `sommelier train`"):
        read_facts(tmp_path)
