"""Opinions are split by artist, all systems read the same facts, and the table tells the claims."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark, found as when it runs as a script."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import atflrec_emotify
    finally:
        sys.path.remove(str(BENCHMARKS))
    return atflrec_emotify


@pytest.fixture(scope="module")
def emotify(bench: ModuleType) -> ModuleType:
    return sys.modules["_emotify"]


def read(emotify: ModuleType, shared_data: Path) -> Any:
    return emotify.read(shared_data / "emotify")


def test_rows_that_both_like_and_dislike_or_neither_are_left_out(
    emotify: ModuleType, shared_data: Path
) -> None:
    known = read(emotify, shared_data)
    assert len(known.opinions) == 3291 + 1757 - 2 * 59
    assert sum(one.is_liked for one in known.opinions) == 3291 - 59


def test_no_song_or_artist_is_on_both_sides_of_a_split(
    emotify: ModuleType, shared_data: Path
) -> None:
    known = read(emotify, shared_data)
    dev = emotify.split(known, draw=0, is_dev=True)
    chosen_on = {known.opinions[n].song for n in (*dev.learned, *dev.judged)}
    for draw in range(5):
        parts = emotify.split(known, draw=draw, is_dev=False)
        learned, judged = (
            {known.opinions[n].song for n in some} for some in (parts.learned, parts.judged)
        )
        artists = [{known.artists[song] for song in some} for some in (learned, judged, chosen_on)]
        assert not artists[0] & artists[1]
        assert not (artists[0] | artists[1]) & artists[2]
        assert len(parts.learned) > 1000
        assert len(parts.judged) > 1000
        for genre in set(known.genres.values()):
            assert sum(known.genres[song] == genre for song in judged) >= 20


def test_equal_draws_give_equal_rows_of_both_kinds(emotify: ModuleType, shared_data: Path) -> None:
    known = read(emotify, shared_data)
    parts = emotify.split(known, draw=1, is_dev=False)
    for k in (16, 64, 256):
        chosen = emotify.shots(known, parts, k, draw=1)
        assert chosen.tolist() == emotify.shots(known, parts, k, draw=1).tolist()
        assert chosen.tolist() != emotify.shots(known, parts, k, draw=2).tolist()
        assert len(set(chosen.tolist()) & set(parts.learned.tolist())) == k
        assert 2 <= emotify.labels(known, chosen).sum() <= k - 2


def test_what_a_song_made_someone_feel_is_told_only_where_asked(
    emotify: ModuleType, shared_data: Path
) -> None:
    known = read(emotify, shared_data)
    one = next(one for one in known.opinions if one.felt)
    assert "feels" not in one.sentence(with_felt=False)
    assert one.sentence(with_felt=True).endswith(", ".join(one.felt))
    before, after = (emotify.facts(known, with_felt=felt) for felt in (False, True))
    assert after.shape[1] == before.shape[1] + len(emotify.EMOTIONS)
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)


def test_every_claim_compares_systems_that_there_are(bench: ModuleType) -> None:
    random = np.random.default_rng(0)
    found = {name: random.random((3, 3)) for name in bench.SYSTEMS}
    figures, meanings = bench.figures_of(found)
    assert figures.keys() == meanings.keys()
    assert len(figures) == 4 * (len(bench.SYSTEMS) + len(bench.CLAIMS))
    difference = figures["separate_less_shared_at_64"]
    expected = (found["separate"] - found["shared"])[:, 1].mean()
    assert difference["median"] == pytest.approx(expected)
    assert difference["low"] < difference["median"] < difference["high"]


def test_an_interval_is_students_t(bench: ModuleType) -> None:
    made = bench.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert made["median"] == 3
    assert made["low"] == pytest.approx(3 - half, abs=1e-4)
    assert made["high"] == pytest.approx(3 + half, abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_learns_something_from_few_rows_and_goes_on_where_it_was(
    shared_data: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(BENCHMARKS / "atflrec_emotify.py"), "--rounds", "2", "--quick"]
    command += ["--systems", "separate", "logistic_felt", "--cache", str(tmp_path / "cache")]
    printed = []
    for name in ("first", "again"):
        made = subprocess.run(
            [*command, "--json", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SOMMELIER_SHARED_DATA": str(shared_data)},
        )
        assert made.returncode == 0, made.stderr
        printed.append(json.loads((tmp_path / name).read_text())["figures"])
    assert printed[0] == printed[1]
    assert len(list((tmp_path / "cache" / "runs").glob("*.json"))) == 2 * 2 * 3
    assert printed[0]["logistic_felt_at_256"]["median"] > 0.65
    assert 0 < printed[0]["separate_at_256"]["median"] < 1
