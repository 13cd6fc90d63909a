"""The writer of a server's texts, against a real server with real (tiny) checkpoints."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedders.items import Modality
from embedders.summaries.base import Prompt, Unanswered, Unwritten
from embedders.summaries.config import WriterConfig
from embedders.summaries.engine_openai import OpenAiWriter
from embedders.summaries.engine_transformers import TransformersWriter
from tests.embedders import tiny
from tests.embedders.summaries import tiny_mllm
from tests.embedders.summaries.hostile import ROLES
from tests.embedders.summaries.served_model import served

# Starting a server loads torch anew, which takes minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(600)]

TITLES = tiny.TITLES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that sees, and whose processor needs no torchvision."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_mllm.quietly(tiny_mllm.idefics3, folder)
    return folder


@pytest.fixture(scope="module")
def url(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(checkpoint, tmp_path_factory.mktemp("server")) as address:
        yield address


def writer(url: str, checkpoint: Path, **settings: Any) -> OpenAiWriter:
    given = {"timeout_s": 60.0, "retries": 0, "concurrency": 3, **settings}
    return OpenAiWriter(WriterConfig(engine="openai", model=str(checkpoint), url=url, **given))


def prompts(*texts: str, **given: Any) -> list[Prompt]:
    return [Prompt(instruction="Say what it is.", text=t, max_tokens=8, **given) for t in texts]


def test_a_served_model_writes_what_it_writes_in_this_process(url: str, checkpoint: Path) -> None:
    config = WriterConfig(engine="transformers", model=str(checkpoint), device="cpu")
    with closing(TransformersWriter(config)) as local:
        here = local.write(prompts(*TITLES))
    with closing(writer(url, checkpoint)) as remote:
        there = remote.write(prompts(*TITLES))
        again = remote.write(prompts(*TITLES))
    assert there == again
    assert there == here
    assert len(set(map(str, there))) > 1


def test_a_served_model_counts_its_tokens(url: str, checkpoint: Path) -> None:
    with closing(writer(url, checkpoint, input_price=1.0, output_price=1.0)) as remote:
        before = remote.usage.output_tokens
        remote.write(prompts(*TITLES))
        assert 0 < remote.usage.output_tokens - before <= 8 * len(TITLES)
        assert remote.usage.input_tokens > 4 * len(TITLES)
        assert remote.cost == (remote.usage.input_tokens + remote.usage.output_tokens) / 1e6


def test_a_served_model_is_shown_pictures(url: str, checkpoint: Path, tmp_path: Path) -> None:
    def shown(seed: int) -> str | Unwritten:
        path = tmp_path / f"{seed}.png"
        tiny.picture(seed).save(path)
        with closing(writer(url, checkpoint)) as remote:
            assert Modality.IMAGE in remote.reads
            (answer,) = remote.write(prompts("the red wine", images=(path,)))
            return answer

    with closing(writer(url, checkpoint)) as remote:
        (unseen,) = remote.write(prompts("the red wine"))
    answers = [shown(seed) for seed in range(4)]
    assert not any(isinstance(answer, Unwritten) for answer in (unseen, *answers))
    assert len({str(answer) for answer in (unseen, *answers)}) > 2


@pytest.mark.parametrize("name", ROLES)
def test_a_served_model_answers_hostile_words_too(url: str, checkpoint: Path, name: str) -> None:
    with closing(writer(url, checkpoint)) as remote:
        first, hostile, last = remote.write(prompts(TITLES[0], ROLES[name], TITLES[1]))
        assert [first, last] == remote.write(prompts(*TITLES[:2]))
    assert str(hostile)


def test_a_model_that_is_not_served_is_refused_at_once(url: str) -> None:
    with pytest.raises(Unanswered, match=r"pinned to .* requested 'nobody'"):
        writer(url, Path("nobody"))


def test_a_prompt_that_breaks_the_server_costs_no_other(url: str, checkpoint: Path) -> None:
    with closing(writer(url, checkpoint)) as remote:
        broken = "<image>"  # a picture's token without a picture
        first, odd, last = remote.write(prompts(TITLES[0], broken, TITLES[1]))
    assert isinstance(odd, Unwritten)
    assert "of this prompt, not of others, the server says: 500" in str(odd)
    assert not isinstance(first, Unwritten)
    assert not isinstance(last, Unwritten)


def test_a_served_model_that_only_reads_is_not_shown_pictures_in_vain(
    tmp_path: Path,
) -> None:
    checkpoint, folder, picture = (tmp_path / name for name in ("llama", "server", "a.png"))
    folder.mkdir()
    tiny_mllm.quietly(tiny_mllm.llama, checkpoint)
    tiny.picture(1).save(picture)
    with served(checkpoint, folder) as url, closing(writer(url, checkpoint)) as remote:
        with pytest.raises(ValueError, match="as many tokens with image as without"):
            remote.write(prompts("the red wine", images=(picture,)))
        (answer,) = remote.write(prompts("the red wine"))
        assert not isinstance(answer, Unwritten)
