"""What is published is whole, stays as it was, and can be pointed at again."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.items import Modality
from embedders.vectors import Space
from ranker.calibration import CALIBRATOR, Calibrator
from ranker.generation import CURRENT, MANIFEST, Generation, GenerationError, Generations
from ranker.probes import PROBES, Probes

TEXT = Space(modality=Modality.TEXT, encoder="words", revision="1", dim=3)
FUSED = Space(modality=None, encoder="tokens", revision="1", dim=4, is_normalized=False)
CUT = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    for part, name in (("index", "index.safetensors"), ("adapter", "lora/weights.safetensors")):
        path = tmp_path / part / name
        path.parent.mkdir(parents=True)
        path.write_text(part)
    return Generations(tmp_path / "generations")


def publish(
    generations: Generations,
    *,
    as_of: datetime = CUT,
    llm: str = "models/llm",
    holds_llm: bool = False,
    prove: Callable[[Generation], Probes] | None = None,
) -> Generation:
    here = generations.root.parent
    return generations.publish(
        index=here / "index",
        adapter=here / "adapter",
        llm=llm,
        spaces=(TEXT,),
        fused_space=FUSED,
        as_of=as_of,
        holds_llm=holds_llm,
        prove=prove,
    )


def change_index(generations: Generations, text: str) -> None:
    (generations.root.parent / "index" / "index.safetensors").write_text(text)


def test_a_generation_pins_copies_of_all_its_parts(generations: Generations) -> None:
    generation = publish(generations)
    assert generation.generation_id == "g-000001"
    assert (generation.spaces, generation.fused_space) == ((TEXT,), FUSED)
    assert (generation.as_of, generation.llm) == (CUT, "models/llm")
    assert set(generation.files) == {
        "index/index.safetensors",
        "adapter/lora/weights.safetensors",
    }
    change_index(generations, "another")
    assert (generation.index / "index.safetensors").read_text() == "index"
    assert (generation.adapter / "lora" / "weights.safetensors").read_text() == "adapter"
    generation.check()


def test_what_is_published_is_read_back_equal(generations: Generations) -> None:
    generation = publish(generations)
    assert generations.current() == generation
    assert generations.read("g-000001") == generation
    assert Generations(generations.root).ids() == ["g-000001"]


def test_nothing_is_left_beside_the_generations(generations: Generations) -> None:
    publish(generations)
    publish(generations)
    assert {path.name for path in generations.root.iterdir()} == {"g-000001", CURRENT}


def test_the_same_content_stays_the_current_generation(generations: Generations) -> None:
    first = publish(generations)
    assert publish(generations) == first
    change_index(generations, "another")
    second = publish(generations)
    assert second.generation_id == "g-000002"
    assert generations.current() == second
    third = publish(generations, as_of=datetime(2024, 7, 1, tzinfo=UTC))
    assert generations.ids() == ["g-000001", "g-000002", "g-000003"]
    assert generations.current() == third


def test_pointing_back_is_a_roll_back_and_the_next_is_new(generations: Generations) -> None:
    first = publish(generations)
    change_index(generations, "another")
    publish(generations)
    assert generations.point("g-000001") == first
    assert generations.current() == first
    assert publish(generations).generation_id == "g-000003"
    assert {path.name for path in generations.root.iterdir()} == {
        *generations.ids(),
        CURRENT,
    }


def test_publishing_that_fails_leaves_the_old_one_served(
    generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(generations)
    change_index(generations, "another")

    def full(self: Path, *_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        publish(generations)
    monkeypatch.undo()
    assert generations.current() == first
    assert {path.name for path in generations.root.iterdir()} == {"g-000001", CURRENT}


def test_a_file_that_is_missing_or_changed_is_named_with_the_command(
    generations: Generations,
) -> None:
    generation = publish(generations)
    path = generation.index / "index.safetensors"
    path.write_text("other")
    with pytest.raises(GenerationError, match=r"index\.safetensors is not what .*`sommelier publ"):
        generation.check()
    path.unlink()
    with pytest.raises(
        GenerationError, match=r"index\.safetensors is missing: run `sommelier index` and"
    ):
        generation.check()


def test_publishing_again_mends_a_damaged_generation(generations: Generations) -> None:
    damaged = publish(generations)
    (damaged.index / "index.safetensors").write_text("other")
    mended = publish(generations)
    assert mended.generation_id == "g-000002"
    mended.check()
    assert generations.current() == mended


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": 2}',
        '{"format": 9}',
        '{"format": [2]}',
        '{"format": 2, "generation_id": 4}',
        "\udcff",
    ],
)
def test_a_damaged_manifest_is_refused_and_publishing_mends_it(
    text: str, generations: Generations
) -> None:
    generation = publish(generations)
    manifest = generation.folder / MANIFEST
    manifest.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(GenerationError, match=r"generation\.json is .*run `sommelier publish`"):
        generations.current()
    assert publish(generations).generation_id == "g-000002"


def test_before_anything_is_published_the_message_says_what_to_run(
    generations: Generations,
) -> None:
    with pytest.raises(
        GenerationError, match=r"nothing is published in .*: run `sommelier publish`"
    ):
        generations.current()
    assert generations.ids() == []


@pytest.mark.parametrize("text", ["", "g-000009", "../g-000001"])
def test_a_pointer_at_nothing_is_refused_and_publishing_mends_it(
    text: str, generations: Generations
) -> None:
    publish(generations)
    (generations.root / CURRENT).write_text(text)
    with pytest.raises(GenerationError, match=r"no generation .*there are: g-000001"):
        generations.current()
    assert publish(generations) == generations.current()


@pytest.mark.parametrize("name", ["", ".", "..", "../g-000001", "g-000001/", "/etc", "elsewhere"])
def test_an_id_that_is_a_path_is_refused(name: str, generations: Generations) -> None:
    publish(generations)
    manifest = (generations.root / "g-000001" / MANIFEST).read_text()
    for folder in (generations.root, generations.root.parent, generations.root / "elsewhere"):
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST).write_text(manifest)
    for ask in (generations.read, generations.point):
        with pytest.raises(GenerationError, match="no generation"):
            ask(name)
    assert generations.current().generation_id == "g-000001"


@pytest.mark.parametrize(("part", "command"), [("index", "index"), ("adapter", "train")])
def test_a_part_that_is_not_there_is_named_with_the_command(
    part: str, command: str, generations: Generations
) -> None:
    folder = generations.root.parent / part
    folder.rename(folder.with_name("moved"))
    with pytest.raises(GenerationError, match=f"{part} is missing: run `sommelier {command}`"):
        publish(generations)


def test_a_generation_that_is_held_does_not_change(generations: Generations) -> None:
    generation = publish(generations)
    manifest = json.loads((generation.folder / MANIFEST).read_text())
    assert "folder" not in manifest, "a folder of generations may be moved"
    moved = generations.root.rename(generations.root.with_name("moved"))
    assert replace(Generations(moved).current(), folder=generation.folder) == generation
    Generations(moved).current().check()


CALIBRATED = Calibrator(logit_weight=0.5, slope=1.2, intercept=-3.0, gain=0.1, num_lists=40)


def test_the_calibrator_of_the_adapter_is_pinned(generations: Generations) -> None:
    plain = publish(generations)
    assert plain.calibrator == ""
    CALIBRATED.save(generations.root.parent / "adapter" / CALIBRATOR)
    generation = publish(generations)
    assert generation.generation_id == "g-000002"
    assert generation.calibrator == CALIBRATED.calibrator_id
    assert f"adapter/{CALIBRATOR}" in generation.files
    assert generations.current() == generation == publish(generations)
    generation.check()
    assert replace(CALIBRATED, slope=2.0).calibrator_id != generation.calibrator


def test_a_calibrator_that_is_not_the_named_one_is_refused(generations: Generations) -> None:
    CALIBRATED.save(generations.root.parent / "adapter" / CALIBRATOR)
    generation = publish(generations)
    with pytest.raises(GenerationError, match=r"names the calibrator 'other', but its adapter"):
        replace(generation, calibrator="other").check()
    with pytest.raises(GenerationError, match=r"names the calibrator '', but"):
        replace(generation, calibrator="").check()


def test_a_damaged_calibrator_is_not_published(generations: Generations) -> None:
    first = publish(generations)
    (generations.root.parent / "adapter" / CALIBRATOR).write_text("{}")
    with pytest.raises(GenerationError, match=r"adapter/calibrator\.json is damaged .*train"):
        publish(generations)
    assert generations.current() == first
    assert {path.name for path in generations.root.iterdir()} == {"g-000001", CURRENT}


def test_a_generation_of_before_calibrators_is_served_as_it_was(generations: Generations) -> None:
    generation = publish(generations)
    manifest = generation.folder / MANIFEST
    facts = json.loads(manifest.read_text())
    assert facts.pop("calibrator") == ""
    manifest.write_text(json.dumps({**facts, "format": 1}))
    assert generations.current() == generation
    generation.check()
    assert publish(generations) == generation


class Together(Generations):
    """A publisher who has chosen its first id only when all others have."""

    def __init__(self, root: Path, barrier: threading.Barrier) -> None:
        super().__init__(root)
        self.barrier: threading.Barrier | None = barrier

    def _next_id(self) -> str:
        found = super()._next_id()
        if self.barrier is not None:
            self.barrier.wait(timeout=60)
            self.barrier = None
        return found


def test_simultaneous_publishers_each_make_a_generation(generations: Generations) -> None:
    publish(generations)
    here, count = generations.root.parent, 4
    barrier = threading.Barrier(count)

    def one(place: int) -> Generation:
        return Together(generations.root, barrier).publish(
            index=here / "index",
            adapter=here / "adapter",
            llm=f"models/llm-{place}",
            spaces=(TEXT,),
            fused_space=FUSED,
            as_of=CUT,
        )

    with ThreadPoolExecutor(count) as pool:
        made = list(pool.map(one, range(count)))
    assert sorted(one.generation_id for one in made) == [f"g-00000{n}" for n in range(2, 6)]
    assert [one.llm for one in made] == [f"models/llm-{n}" for n in range(count)]
    for one_made in made:
        assert generations.read(one_made.generation_id) == one_made
        one_made.check()
    assert generations.current() in made
    assert {path.name for path in generations.root.iterdir()} == {*generations.ids(), CURRENT}


def test_what_is_left_of_a_generation_keeps_its_id(generations: Generations) -> None:
    publish(generations)
    (generations.root / "g-000002" / "index").mkdir(parents=True)
    (generations.root / "g-old").mkdir()
    change_index(generations, "another")
    assert publish(generations).generation_id == "g-000003"


def own_llm(generations: Generations) -> Path:
    """An LLM's folder beside the generations."""
    folder = generations.root.parent / "models" / "llm"
    (folder / "parts").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "parts" / "model.safetensors").write_text("weights")
    return folder


def test_a_generation_holds_the_workspaces_own_llm_for_no_room(generations: Generations) -> None:
    folder = own_llm(generations)
    generation = publish(generations, llm=str(folder), holds_llm=True)
    assert (generation.llm, generation.llm_source) == ("", str(generation.folder / "llm"))
    weights = Path(generation.llm_source) / "parts" / "model.safetensors"
    assert os.path.samefile(weights, folder / "parts" / "model.safetensors")
    assert "llm/parts/model.safetensors" in generation.files
    assert publish(generations, llm=str(folder), holds_llm=True) == generation
    shutil.rmtree(folder)
    generation.check()
    assert str(generations.root) not in (generation.folder / MANIFEST).read_text()


def test_an_llm_that_changed_in_place_is_noticed(generations: Generations) -> None:
    folder = own_llm(generations)
    generation = publish(generations, llm=str(folder), holds_llm=True)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(GenerationError, match=r"llm/config\.json is not what was published"):
        generation.check()


def test_an_llm_that_cannot_be_linked_is_copied(
    generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_llm(generations)

    def another_disk(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", another_disk)
    generation = publish(generations, llm=str(folder), holds_llm=True)
    weights = Path(generation.llm_source) / "parts" / "model.safetensors"
    assert weights.read_text() == "weights"
    assert weights.stat().st_nlink == 1


def test_an_llm_that_is_named_stays_named_wherever_the_generation_goes(
    generations: Generations,
) -> None:
    publish(generations, llm="Qwen/Qwen2.5-0.5B")
    moved = Generations(generations.root.rename(generations.root.with_name("moved")))
    assert moved.current().llm_source == "Qwen/Qwen2.5-0.5B"


def test_a_missing_llm_is_not_held(generations: Generations) -> None:
    with pytest.raises(GenerationError, match="nowhere is missing: run `sommelier train`"):
        publish(generations, llm=str(generations.root / "nowhere"), holds_llm=True)


PROVED = Probes(tolerance=0.1, states={}, probes=())


def test_probes_are_asked_of_the_finished_parts_and_pinned(generations: Generations) -> None:
    asked: list[Generation] = []

    def prove(generation: Generation) -> Probes:
        generation.check()
        assert not (generations.root / CURRENT).exists(), "nothing of it is served yet"
        asked.append(generation)
        return PROVED

    generation = publish(generations, prove=prove)
    assert generation.probes == generation.folder / PROBES
    assert PROBES in generation.files
    generation.check()
    assert publish(generations, prove=prove) == generation == publish(generations)
    assert len(asked) == 1, "the same content is not asked again"


def test_what_cannot_answer_is_not_published(generations: Generations) -> None:
    first = publish(generations)
    change_index(generations, "another")

    def prove(generation: Generation) -> Probes:
        raise ValueError("the adapter is of another LLM")

    with pytest.raises(ValueError, match="of another LLM"):
        publish(generations, prove=prove)
    assert generations.current() == first
    assert {path.name for path in generations.root.iterdir()} == {"g-000001", CURRENT}


def test_a_generation_of_before_probes_is_served_as_it_was(generations: Generations) -> None:
    generation = publish(generations)
    manifest = generation.folder / MANIFEST
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "format": 2}))
    assert generations.current() == generation
    assert (generation.llm_source, generation.probes) == ("models/llm", None)


KILLED = """
import os, signal, sys
from tests.ranker.test_generation import Generations, Path, publish

def prove(generation):
    os.kill(os.getpid(), signal.SIGKILL)

publish(Generations(Path(sys.argv[1])), prove=prove)
"""


def test_publishing_that_is_killed_leaves_the_old_one_and_is_swept_away_later(
    generations: Generations,
) -> None:
    first = publish(generations)
    change_index(generations, "another")
    killed = subprocess.run([sys.executable, "-c", KILLED, generations.root], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = generations.root.glob(".publishing-*")
    assert generations.current() == first
    assert generations.ids() == ["g-000001"]
    second = publish(generations)
    assert (second.generation_id, left.exists()) == ("g-000002", True), "it may still be at work"
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(left, (long_ago, long_ago))
    publish(generations)
    assert not left.exists()
    assert generations.current() == second
