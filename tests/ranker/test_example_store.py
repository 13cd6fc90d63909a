"""What is kept is read back equal, with little in memory; a killed collection goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from embedders.items import Interaction, Modality
from ranker import example_store, examples
from ranker.example_store import ExampleStore, ExampleStoreError, StoredExamples
from ranker.examples import Example, split
from retrieval.candidates import Candidate, Query
from tests.ranker import collection_world
from tests.ranker.collection_world import collected
from tests.ranker.events_world import DAY, START

WEIGHTS = {Modality.AUDIO: 0.5, Modality.TEXT: 1.0}
ROOT = Path(__file__).parents[2]


def example(n: int) -> Example:
    """Every kind of gap at least once among a few."""
    history = tuple(
        Interaction(
            item_id=f"p{place}",
            behavior="rate" if place % 2 else "view",
            user_id="" if n % 2 else f"u{n}",
            timestamp=None if place == 3 else START + place * DAY + timedelta(microseconds=n),
            weight=4.5 if place % 2 else None,
            position=place if n % 3 else None,
        )
        for place in range(n % 5)
    )
    candidates = tuple(
        Candidate(
            item_id=f"c{rank}",
            score=1 / (rank + n),
            rank=rank,
            evidence={Modality.AUDIO: 0.1 * rank, "sequence": 1 / 3} if rank % 2 else {},
            support={Modality.AUDIO: 0.7 / rank} if rank % 3 else {},
        )
        for rank in range(1, 3 + n % 4)
    )
    return Example(
        query=Query(
            user_id=f"u{n}",
            history=None if n == 2 else history,
            as_of=None if n == 4 else START + n * DAY,
            behavior=("view", None, "ö")[n % 3],
            preference=(None, "", 'likes "red" wine\n and 👩‍👩‍👧‍👦')[n % 3],
        ),
        candidates=candidates,
        chosen=frozenset({f"c{1 + n % 2}", "elsewhere"}),
        weights=WEIGHTS,
        masked=frozenset({"c3"} if n % 2 else ()),
    )


EXAMPLES = [example(n) for n in range(10)]


def stored(folder: Path, blocks: Sequence[Sequence[Example]]) -> StoredExamples:
    store = ExampleStore(folder)
    for place in store.begin("key", num_blocks=len(blocks)):
        store.write(place, blocks[place])
    return store.read()


@pytest.fixture
def kept(tmp_path: Path) -> StoredExamples:
    """In blocks of 4, 0, 5 and 1."""
    blocks = [EXAMPLES[:4], [], EXAMPLES[4:9], EXAMPLES[9:]]
    return stored(tmp_path / "examples", blocks)


def test_examples_are_read_back_equal_in_any_order(kept: StoredExamples) -> None:
    assert len(kept) == 10
    assert list(kept) == EXAMPLES
    for place in (7, 0, 9, 3, 4, -1, -10):
        assert kept[place] == EXAMPLES[place]
        assert kept[place].weights == WEIGHTS


def test_parts_of_it_are_read_as_lazily(kept: StoredExamples) -> None:
    assert list(kept[2:8:3]) == EXAMPLES[2:8:3]
    assert list(kept[2:8][1:3]) == EXAMPLES[3:5]
    assert kept[::-1][0] == EXAMPLES[-1]
    assert len(kept[3:3]) == 0
    for place in (10, -11):
        with pytest.raises(IndexError):
            kept[place]


def test_nothing_is_a_collection_too(tmp_path: Path) -> None:
    assert list(stored(tmp_path / "none", [])) == []
    assert list(stored(tmp_path / "empty", [[], []])) == []
    (popular,) = stored(
        tmp_path / "popular",
        [[replace(EXAMPLES[0], candidates=(Candidate(item_id="c1", score=1.0, rank=1),))]],
    )
    assert popular.candidates == (Candidate(item_id="c1", score=1.0, rank=1),)


def test_it_is_split_without_reading_its_lists(
    kept: StoredExamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held = split(EXAMPLES, 0.35)

    def refuse(*_: object) -> Example:
        raise AssertionError("a list was read")

    with monkeypatch.context() as patched:
        patched.setattr(example_store, "to_example", refuse)
        parts = split(kept, 0.35)
    assert [list(part) for part in parts] == [list(train), list(held)]


def test_few_row_groups_are_held_however_many_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_store, "GROUP", 2)
    monkeypatch.setattr(example_store, "HELD", 3)
    monkeypatch.setattr(example_store, "OPEN", 1)
    many = stored(tmp_path / "examples", [EXAMPLES] * 5)
    assert list(many) == EXAMPLES * 5
    assert [many[place] for place in range(49, -1, -7)] == (EXAMPLES * 5)[49::-7]
    groups, files = many._group.cache_info(), many._file.cache_info()
    assert (groups.currsize, files.currsize) == (3, 1)
    assert groups.misses > 25


def test_what_was_made_from_something_else_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    stored(folder, [EXAMPLES[:4], EXAMPLES[4:]])
    store = ExampleStore(folder)
    assert store.begin("key", num_blocks=2) == []
    assert store.begin("other", num_blocks=2) == [0, 1]
    store.write(1, EXAMPLES[:1])
    assert store.begin("other", num_blocks=2) == [0]
    assert store.begin("other", num_blocks=3) == [0, 1, 2]


def test_what_is_missing_or_damaged_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    with pytest.raises(ExampleStoreError, match="holds no examples: run `sommelier train`"):
        ExampleStore(folder).read()
    stored(folder, [EXAMPLES[:4], EXAMPLES[4:]])
    (folder / "00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ExampleStoreError, match=r"00001\.parquet is missing or damaged .*remove"):
        ExampleStore(folder).read()
    (folder / "00001.parquet").unlink()
    with pytest.raises(ExampleStoreError, match=r"00001\.parquet is missing"):
        ExampleStore(folder).read()


def test_a_collection_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    in_memory = collected(None)
    assert len(in_memory) > 20
    assert any(one.masked for one in in_memory)
    on_disk = collected(tmp_path / "examples")
    assert isinstance(on_disk, StoredExamples)
    assert list(on_disk) == in_memory


def test_how_many_are_asked_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    together = collected(None)
    monkeypatch.setattr(examples, "HIDDEN", 2)
    monkeypatch.setattr(examples, "STRETCH", 3)
    assert collected(None) == together


def test_progress_counts_what_was_done_before(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    collected(tmp_path / "examples", on_progress=lambda done, total: told.append((done, total)))
    assert told[0] == (collection_world.BLOCK, collection_world.NUM_MOMENTS)
    assert told[-1] == (collection_world.NUM_MOMENTS, collection_world.NUM_MOMENTS)
    whole = list(told)
    (tmp_path / "examples" / "00006.parquet").unlink()
    collected(tmp_path / "examples", on_progress=lambda done, total: told.append((done, total)))
    assert told[len(whole) :] == whole[-1:]


def test_what_is_collected_is_found_again_and_other_settings_collect_anew(tmp_path: Path) -> None:
    folder, asked = tmp_path / "examples", []
    first = list(collected(folder))
    assert list(collected(folder, asked=asked)) == first
    assert asked == []
    assert list(collected(folder, asked=asked, num_candidates=5)) != first
    assert asked != []


def test_a_killed_collection_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    script = (
        "from pathlib import Path; from tests.ranker.collection_world import collected;"
        f"collected(Path({str(folder)!r}), killed_after=2)"
    )
    died = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert 0 < len(before) < collection_world.NUM_BLOCKS
    with pytest.raises(ExampleStoreError, match="is missing"):
        ExampleStore(folder).read()

    asked: list[str] = []
    assert list(collected(folder, asked=asked)) == collected(None)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert before.items() <= after.items(), "finished blocks were written again"
    assert len(after) == collection_world.NUM_BLOCKS
    assert 0 < len(asked) < collection_world.NUM_MOMENTS, "finished blocks were asked for again"
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
