"""What a generation answered when it was published, it answers wherever it is loaded."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_repo.store import Store
from ranker import probes
from ranker.generation import MANIFEST, Generation, GenerationError, Generations
from ranker.loaded import LoadedGeneration, load, prove
from ranker.probes import PROBES, Answered, ProbeError, Probes
from tests.ranker.shop_world import ITEMS, Shop, fill


@pytest.fixture(scope="module")
def loaded(shop: Shop) -> LoadedGeneration:
    return load(shop.generations, store=shop.store, online=False)


@pytest.fixture
def asked(loaded: LoadedGeneration) -> Probes:
    assert loaded.generation.probes is not None
    return probes.load(loaded.generation.probes)


def changed(asked: Probes, *, place: int, score: float) -> Probes:
    """The last question's answer with another score of one item."""
    *others, last = asked.probes
    answer = list(last.answer)
    answer[place] = replace(answer[place], score=score)
    return replace(asked, probes=(*others, replace(last, answer=tuple(answer))))


def keep(generation: Generation, asked: Probes) -> None:
    """Put other probes into a published generation, hash and all."""
    asked.save(generation.folder / PROBES)
    manifest = generation.folder / MANIFEST
    facts = json.loads(manifest.read_text())
    facts["files"][PROBES] = hashlib.sha256((generation.folder / PROBES).read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts))


def test_a_generation_keeps_questions_of_several_lengths_with_whole_answers(
    loaded: LoadedGeneration, asked: Probes
) -> None:
    assert [len(probe.history) for probe in asked.probes] == [0, 1, 5]
    for probe in asked.probes:
        assert len(probe.answer) == probes.NUM_CANDIDATES
        scores = [one.score for one in probe.answer]
        assert scores == sorted(scores, reverse=True)
        named = {item_id for item_id, _ in probe.history} | {one.item_id for one in probe.answer}
        assert named <= set(ITEMS.item_ids)
        assert named <= asked.states.keys()
    assert asked.tolerance == 1e-3
    assert PROBES in loaded.generation.files


def test_the_same_questions_have_the_same_answers_online_and_offline(
    loaded: LoadedGeneration, asked: Probes, shop: Shop
) -> None:
    probes.check(loaded, asked)
    assert probes.make(loaded, tolerance=asked.tolerance) == asked
    assert prove(loaded.generation, store=shop.store) == asked
    assert probes.make(load(shop.generations, store=shop.store), tolerance=1e-3) == asked


@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_score_beyond_the_tolerance_is_refused_and_named(
    place: int, loaded: LoadedGeneration, asked: Probes
) -> None:
    one = asked.probes[-1].answer[place]
    allowed = asked.tolerance * max(1.0, abs(one.score))
    probes.check(loaded, changed(asked, place=place, score=one.score + 0.9 * allowed))
    for wrong in (one.score + 1.1 * allowed, one.score - 1.1 * allowed, float("nan")):
        with pytest.raises(ProbeError, match=rf"probe 3 of 3: '{one.item_id}' scores"):
            probes.check(loaded, changed(asked, place=place, score=wrong))


def test_a_list_in_another_order_than_its_scores_is_refused(
    loaded: LoadedGeneration, asked: Probes
) -> None:
    ranked = loaded.rerank(
        asked.probes[-1].query,
        loaded.retrieve(asked.probes[-1].query, limit=probes.NUM_CANDIDATES),
    ).items
    expected = {one.item_id: one.score for one in ranked}
    for turned, wrong in ((ranked, ""), (ranked[::-1], f"'{ranked[-2].item_id}' stands behind")):
        seen = probes._wrong_scores(turned, expected, tolerance=1e-6)
        assert seen.startswith(wrong)
        assert bool(seen) == bool(wrong)


def test_retrieval_that_finds_other_items_is_refused(
    loaded: LoadedGeneration, asked: Probes
) -> None:
    last = asked.probes[-1]
    found = {one.item_id for one in last.answer}
    others = [one for one in ITEMS.item_ids if one not in found]
    replaced = [Answered(item_id=one, score=0.0) for one in others[:5]]
    probe = replace(last, answer=(*last.answer[5:], *replaced))
    with pytest.raises(ProbeError, match=r"retrieval finds 11 of the 16 candidates"):
        probes.check(loaded, replace(asked, probes=(probe,)))


def test_what_the_store_holds_anew_is_not_compared(
    asked: Probes, shop: Shop, adapter: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    fill(store, adapter)
    answered = asked.probes[0].answer[3].item_id  # of the question without a history
    space = shop.generations.current().fused_space
    stored = store.read(space)
    row = list(stored.item_ids).index(answered)
    moved = replace(
        stored, item_ids=[answered], vectors_ND=np.flip(stored.vectors_ND[row : row + 1], axis=1)
    )
    store.write(
        replace(moved, vectors_ND=np.ascontiguousarray(moved.vectors_ND)),
        content_hashes=["another"],
        event_timestamps=[shop.generations.current().as_of],
    )
    newer = load(shop.generations, store=store, online=False)
    again = probes.make(newer, tolerance=asked.tolerance)
    differing = {
        old.item_id
        for old, new in zip(asked.probes[0].answer, again.probes[0].answer, strict=True)
        if old != new
    }
    assert answered in differing, "else this test shows nothing"
    with pytest.raises(ProbeError):
        probes.check(newer, replace(asked, states=again.states))


def test_wrong_probes_are_refused_when_a_generation_is_loaded(
    asked: Probes, shop: Shop, tmp_path: Path
) -> None:
    copied = Generations(tmp_path / "generations")
    shutil.copytree(shop.generations.root, copied.root)
    keep(copied.current(), changed(asked, place=0, score=1e6))
    told = r"g-000001 does not answer as it did when it was published \(probe 3 of 3: .*publish`"
    with pytest.raises(GenerationError, match=told):
        load(copied, store=shop.store)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "probes": 3}']
)
def test_damaged_probes_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / PROBES).write_text(text)
    with pytest.raises(ProbeError, match=r"probes\.json is damaged .*: run `sommelier publish`"):
        probes.load(tmp_path / PROBES)


def test_missing_probes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="No such file"):
        probes.load(tmp_path / PROBES)


def test_probes_are_read_back_equal(asked: Probes, tmp_path: Path) -> None:
    asked.save(tmp_path / PROBES)
    assert probes.load(tmp_path / PROBES) == asked
