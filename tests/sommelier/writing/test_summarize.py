"""`sommelier summarize` as a user meets it: over and over, interrupted, and before `embed`."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedders.items import Modality
from embedders.texts import TextKind
from feature_repo.store import Store
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.child import child
from tests.embedders.summaries.fake_endpoint import Asked, FakeEndpoint, Reply, completion, failure
from tests.sommelier.conftest import Run
from tests.sommelier.written_world import EVENTS, write_events, write_items

TEMPLATE = """
[summaries]
enabled = true
[preferences]
enabled = true
block_size = 2
[[encoders]]
modality = "text"
encoder = "minilm"
[[encoders]]
modality = "summary"
encoder = "minilm"
"""
SERVED = """
[summaries]
enabled = true
[summaries.writer]
{writer}
[preferences]
enabled = true
block_size = 2
[preferences.writer]
{writer}
"""
WRITER = """
engine = "openai"
model = "m"
url = "{url}"
concurrency = 1
retries = 0
input_price = 1000
output_price = 10000
"""
NUM_ITEMS, NUM_STEPS = 6, 8
ROOT, PATIENCE_S = Path(__file__).parents[3], 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path, [f"Wine {n}" for n in range(NUM_ITEMS)])
    write_events(tmp_path, EVENTS)
    (tmp_path / "sommelier.toml").write_text(TEMPLATE)
    return tmp_path


@pytest.fixture
def endpoint(folder: Path) -> Iterator[FakeEndpoint]:
    """A server that both sections name, which answers every question by its words."""
    with FakeEndpoint() as running:
        running.answer = lambda asked: completion(f"It says {sum(map(ord, asked.text))}.")
        writer = WRITER.format(url=running.url)
        (folder / "sommelier.toml").write_text(SERVED.format(writer=writer))
        yield running


def go(run: Run, folder: Path, *words: str, code: int = 0) -> str:
    command, *rest = words
    result = run(command, "--settings", folder / "sommelier.toml", *rest)
    assert result.exit_code == code, result.output + result.stderr
    return str(result.output + result.stderr)


def row(shown: str, what: str) -> list[int]:
    """written, unchanged, set aside, taken away."""
    line = next(line for line in shown.splitlines() if f"│ {what}" in line)
    return [int(cell.replace(",", "")) for cell in line.split("│")[3:7]]


def texts(folder: Path) -> dict[str, dict[str, str]]:
    store = Store(folder / "store")
    return {
        source_id: {row_id: one.text for row_id, one in store.read_texts(source).items()}
        for source_id, source in store.text_sources().items()
    }


def test_a_second_run_writes_nothing(run: Run, folder: Path) -> None:
    first = go(run, folder, "summarize")
    assert (row(first, "items"), row(first, "users")) == ([6, 0, 0, 0], [8, 0, 0, 0])
    assert "template" in first
    parts = sorted((folder / "store").rglob("*.parquet"))
    second = go(run, folder, "summarize")
    assert (row(second, "items"), row(second, "users")) == ([0, 6, 0, 0], [0, 8, 0, 0])
    assert sorted((folder / "store").rglob("*.parquet")) == parts


def test_without_anything_enabled_it_says_what_to_set(run: Run, folder: Path) -> None:
    (folder / "sommelier.toml").write_text("")
    shown = go(run, folder, "summarize", code=1)
    assert "summaries.enabled = true" in shown
    assert "preferences.enabled = true" in shown


def test_an_encoder_of_summaries_asks_for_them_before_anything_is_done(
    run: Run, folder: Path
) -> None:
    shown = go(run, folder, "embed", code=1)
    assert "run `sommelier summarize` first" in shown
    assert not (folder / "store/parts").exists()


def test_summaries_are_embedded_follow_what_changes_and_go_with_their_items(
    run: Run, folder: Path
) -> None:
    go(run, folder, "summarize")
    shown = go(run, folder, "embed")
    assert row(shown, "summary") == [6, 0, 0, 0]
    workspace = Workspace(load(folder / "sommelier.toml"))
    (space,) = (one for one in workspace.spaces() if one.modality is Modality.SUMMARY)
    assert workspace.summaries["i0"] == "Wine 0: white."

    write_items(folder, ["Sherry", *(f"Wine {n}" for n in range(1, NUM_ITEMS - 1))])
    write_events(folder, [one for one in EVENTS if one[1] != "i5"])
    go(run, folder, "summarize")
    assert row(go(run, folder, "embed"), "summary") == [1, 4, 0, 0]
    left = Workspace(load(folder / "sommelier.toml"))
    assert sorted(left.store.read(space).item_ids) == [f"i{n}" for n in range(NUM_ITEMS - 1)]
    assert left.summaries.keys() == {f"i{n}" for n in range(NUM_ITEMS - 1)}


def test_a_limit_shows_what_was_written_and_nothing_reads_it_yet(run: Run, folder: Path) -> None:
    shown = go(run, folder, "summarize", "--limit", "2")
    assert row(shown, "items") == [2, 0, 0, 0]
    assert "i1: Wine 1: red." in shown
    assert "the limit left other items out" in shown
    assert Workspace(load(folder / "sommelier.toml")).summary_source is None
    assert row(go(run, folder, "summarize"), "items") == [4, 2, 0, 0]


def test_a_server_writes_for_both_and_the_bill_is_told(
    run: Run, folder: Path, endpoint: FakeEndpoint
) -> None:
    shown = go(run, folder, "summarize")
    assert (row(shown, "items"), row(shown, "users")) == ([6, 0, 0, 0], [8, 0, 0, 0])
    assert len(endpoint.prompts) == NUM_ITEMS + NUM_STEPS
    spent = (3 * 1000 + 2 * 10000) * NUM_STEPS / 1_000_000
    told = f"users: {3 * NUM_STEPS} tokens in, {2 * NUM_STEPS} out, {spent:.4f} spent"
    assert told in shown, "its own share, though both have one writer"
    assert any("It says" in one.text for one in endpoint.prompts), "summaries tell users' events"


@pytest.mark.parametrize("answered", [0, 1, 4, 6, 7, 10, 13])
def test_a_server_that_falls_silent_is_asked_nothing_twice(
    run: Run, folder: Path, endpoint: FakeEndpoint, answered: int
) -> None:
    answer = endpoint.answer

    def failing(asked: Asked) -> Reply:
        return answer(asked) if len(endpoint.prompts) <= answered else failure(503, "too busy")

    endpoint.answer = failing
    assert "too busy" in go(run, folder, "summarize", code=1)
    good = {one.text for one in endpoint.prompts[:answered]}
    endpoint.answer = answer
    endpoint.asked.clear()

    go(run, folder, "summarize")
    again = {one.text for one in endpoint.prompts}
    assert not good & again
    assert len(good | again) == NUM_ITEMS + NUM_STEPS
    written = texts(folder)
    assert sorted(map(len, written.values())) == [3, 6]


@pytest.mark.slow
def test_a_killed_run_asks_again_for_the_batch_at_hand_alone(
    run: Run, folder: Path, endpoint: FakeEndpoint
) -> None:
    """A batch is of eight, as one is asked at once; the twelfth answer never comes."""
    write_items(folder, [f"Wine {n}" for n in range(24)])
    answer, is_asked = endpoint.answer, threading.Event()

    def silent_in_the_end(asked: Asked) -> Reply:
        if len(endpoint.prompts) < 12:
            return answer(asked)
        is_asked.set()
        return Reply(is_silent=True)

    endpoint.answer = silent_in_the_end
    command = [sys.executable, "-c", "from sommelier.app import main; main()", "summarize"]
    with child(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        assert is_asked.wait(PATIENCE_S)
        process.kill()
        assert process.wait() == -9
    (kept,) = texts(folder).values()
    assert len(kept) == 8

    endpoint.answer = answer
    endpoint.asked.clear()
    shown = go(run, folder, "summarize")
    assert row(shown, "items") == [16, 8, 0, 0]
    assert len(endpoint.prompts) == 16 + NUM_STEPS


def test_another_cut_of_blocks_is_another_source_beside_the_first(run: Run, folder: Path) -> None:
    go(run, folder, "summarize")
    go(run, folder, "summarize", "--set", "preferences.block_size=3")
    kinds = [one.kind for one in Store(folder / "store").text_sources().values()]
    assert kinds.count(TextKind.PREFERENCE) == 2
    state = json.loads((folder / "state.json").read_text())
    assert state["summarize"]["preference"]["kind"] == "preference"
    workspace = Workspace(load(folder / "sommelier.toml"))
    assert workspace.preference_source is not None
    assert workspace.store.read_texts(workspace.preference_source)["a"].position == 6


def test_a_split_with_another_clock_is_refused_before_anything_is_written(
    run: Run, folder: Path
) -> None:
    go(run, folder, "summarize")
    shown = go(run, folder, "summarize", "--set", "time.split=user", code=1)
    assert "name another folder in paths.workspace" in shown
