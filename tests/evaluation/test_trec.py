"""Runs and judgements through TREC's files, and other tools reading them."""

import gzip
import warnings

import ir_measures
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.judgements import Judgement
from evaluation.runs import Run, measure
from evaluation.trec import (
    MAX_LINE_BYTES,
    escaped,
    falling,
    read_qrels,
    read_run,
    write_qrels,
    write_run,
)
from tests.evaluation.small_world import CUT

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
scores = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -1.0, 0.5])


@st.composite
def scored_rankings(draw):
    item_ids = draw(st.lists(ids, unique=True, min_size=1, max_size=8))
    return [(item_id, draw(scores)) for item_id in item_ids]


@pytest.fixture(scope="module")
def ranx():
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        warnings.simplefilter("ignore")  # numba's and ranx's own, while they are imported
        import ranx
    return ranx


@settings(max_examples=100, deadline=None)
@given(given_users=st.dictionaries(ids, scored_rankings(), min_size=1, max_size=4), tag=ids)
def test_names_and_orders_of_any_run_survive_the_file(given_users, tag, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.trec"
    rankings = {user: [item for item, _ in one] for user, one in given_users.items()}
    given_scores = {user: [score for _, score in one] for user, one in given_users.items()}
    write_run(Run(name=tag, rankings=rankings, scores=given_scores), path)
    found = read_run(path)
    assert found.name == tag
    assert found.rankings == rankings
    for user_id, of_user in found.scores.items():
        assert of_user == falling(given_scores[user_id], len(of_user))


@settings(max_examples=100, deadline=None)
@given(chosen=st.dictionaries(ids, st.frozensets(ids, min_size=1, max_size=5), min_size=1))
def test_any_judgements_survive_the_file(chosen, tmp_path_factory):
    path = tmp_path_factory.mktemp("qrels") / "qrels.gz"
    judgements = [
        Judgement(user_id=user_id, as_of=CUT, item_ids=chosen[user_id])
        for user_id in sorted(chosen)
    ]
    write_qrels(judgements[::-1], path)
    assert list(read_qrels(path, as_of=CUT)) == judgements


@settings(max_examples=300, deadline=None)
@given(given_scores=st.lists(scores, max_size=30))
def test_scores_fall_strictly_in_single_precision_and_keep_what_already_falls(given_scores):
    found = falling(given_scores, len(given_scores))
    assert np.isfinite(np.float32(found)).all()
    assert (np.diff(np.float32(found)) < 0).all()
    assert (np.diff(found) < 0).all()
    apart = sorted({round(score, 2) for score in given_scores if abs(score) < 100}, reverse=True)
    assert falling(apart, len(apart)) == apart


def test_scores_too_close_for_single_precision_are_told_apart():
    close = [1.0, 1.0 - 1e-12, 1.0 - 2e-12, 0.5]
    found = falling(close, 4)
    assert (found[0], found[3]) == (1, 0.5)
    assert len(set(np.float32(found).tolist())) == 4


def test_without_scores_the_order_alone_is_written(tmp_path):
    write_run(Run(name="r", rankings={"u": ["b", "a"]}), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "u Q0 b 1 2.0 r\nu Q0 a 2 1.0 r\n"


def test_blanks_and_percent_signs_are_escaped_and_nothing_else():
    assert escaped("50% of a\tb") == "50%25%20of%20a%09b"
    assert escaped("Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n/1&2") == "Gr\xfcn/1&2"
    assert escaped("\N{NO-BREAK SPACE}") == "%C2%A0"
    with pytest.raises(ValueError, match="empty"):
        escaped("")


def test_equal_runs_write_equal_bytes(tmp_path):
    one = Run(name="r", rankings={"u": ["a"], "v": ["b"]})
    same = Run(name="r", rankings={"v": ["b"], "u": ["a"]})
    write_run(one, tmp_path / "one.gz")
    write_run(same, tmp_path / "same.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "same.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()).startswith(b"u Q0 a 1 1.0 r\n")


def test_a_foreign_run_is_measured_like_our_own(tmp_path):
    path = tmp_path / "sasrec.txt"
    path.write_text("u Q0 b 0 0.5 sasrec\n\nu 0 a 0 0.5 sasrec\r\nu\tQ0\tc\t7\t9e-1\tsasrec\n")
    judgements = [
        Judgement(user_id=user_id, as_of=CUT, item_ids=frozenset({"a"})) for user_id in "uv"
    ]
    with pytest.raises(ValueError, match="'v'"):
        measure(read_run(path), judgements)
    run = read_run(path, asked="uv")
    assert run.name == "sasrec"
    assert run.rankings == {"u": ["c", "a", "b"], "v": []}
    assert measure(run, judgements).values["mrr@5"].tolist() == [0.5, 0]


def test_a_published_systems_lists_give_its_known_recall(tmp_path, shared_data):
    games = shared_data / "games"
    lists = pq.read_table(games / "candidates/sasrec.parquet").to_pylist()
    with gzip.open(tmp_path / "sasrec.gz", "wt") as file:
        for one in lists:
            for rank, item_id in enumerate(one["item_ids"], start=1):
                file.write(f"{one['user_id']} Q0 {item_id} {rank} {1 / rank} SASRec\n")
    interactions = pq.read_table(games / "interactions.parquet")
    chosen = interactions.filter(pc.equal(interactions["split"], "test"))
    truth = dict(zip(*(chosen[name].to_pylist() for name in ("user_id", "item_id")), strict=True))
    judgements = [
        Judgement(user_id=one["user_id"], as_of=CUT, item_ids=frozenset({truth[one["user_id"]]}))
        for one in lists
    ]
    found = measure(read_run(tmp_path / "sasrec.gz"), judgements)
    assert round(found.mean("recall@100"), 4) == 0.3235
    assert round(found.mean("ndcg@10"), 4) == 0.0493


def test_grades_above_zero_are_choices_and_users_without_one_are_left_out(tmp_path):
    path = tmp_path / "qrels"
    path.write_text("v 0 a 2\nv 0 b 0\nu 0 a -1\n")
    judgement = Judgement(user_id="v", as_of=CUT, item_ids=frozenset({"a"}))
    assert read_qrels(path, as_of=CUT) == (judgement,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u Q0 a 1 1 t\nu Q0 b 2 t\n", "line 2: 6 fields are expected, found 5"),
        ("\nu Q0 a 1 high t\n", "line 2: 'high' is not a number"),
        ("u Q0 a 1 nan t\n", "line 1: 'nan' is not a finite number"),
        ("u Q0 a 1 2 t\nu Q0 a 2 1 t\n", "line 2: item 'a' is ranked twice"),
        ("u Q0 a 1 2 t\nv Q0 a 1 2 s\n", "line 2: the tag is 's', before it was 't'"),
        ("u Q0 50%off 1 2 t\n", "line 1: '50%off' has a percent sign .* is_escaped=False"),
        ("u Q0 a%41 1 2 t\n", "line 1: 'a%41' has a percent sign"),
        ("u Q0 %ff 1 2 t\n", "line 1: '%ff' is not UTF-8"),
        (b"u Q0 \xff 1 2 t\n", "line 1: .* is not UTF-8"),
        ("u Q0 " + "a" * MAX_LINE_BYTES, "line 1: longer than 4096 bytes"),
        ("u Q0 a 1 2 t\nu Q0 b 2 1 t\nu Q0 c 3 0 t\n", "line 3: more than 2 lines"),
        ("\n", "holds no line"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "run"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        read_run(path, max_rows=2)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: b"u Q0 a 1 2 t\n"])
def test_a_damaged_archive_is_refused(tmp_path, damage):
    path = tmp_path / "run.gz"
    write_run(Run(name="r", rankings={"u": [f"i{n}" for n in range(500)]}), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="damaged"):
        read_run(path)


def test_ids_of_others_may_be_taken_as_they_stand(tmp_path):
    (tmp_path / "run").write_text("u Q0 50%off 1 2 t\nu Q0 a%20b 2 1 t\n")
    assert read_run(tmp_path / "run", is_escaped=False).rankings == {"u": ["50%off", "a%20b"]}


def test_judgements_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "qrels"
    path.write_text("u 0 a 1\nu 0 a 1\n")
    with pytest.raises(ValueError, match="line 2: item 'a' is judged twice"):
        read_qrels(path, as_of=CUT)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no judgement"):
        read_qrels(path, as_of=CUT)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "run"
    write_run(Run(name="r", rankings={"u": ["a"]}), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="empty"):
        write_run(Run(name="r", rankings={"u": ["a", ""]}), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("suffix", [".trec", ".gz"])
def test_other_tools_read_our_order_even_where_all_scores_tie(tmp_path, ranx, suffix):
    rng = np.random.default_rng(5)
    items = [f"item {n:02d}" for n in range(40)]
    rankings, judgements = {}, []
    for number in range(30):
        user_id = f"user {number:02d}"
        rankings[user_id] = [items[n] for n in rng.permutation(40)[:25]]
        chosen = frozenset(items[n] for n in rng.permutation(40)[:4])
        judgements.append(Judgement(user_id=user_id, as_of=CUT, item_ids=chosen))
    tied = {user_id: [0.25] * 25 for user_id in rankings}
    run = Run(name="all tied", rankings=rankings, scores=tied)
    write_run(run, tmp_path / f"run{suffix}")
    write_qrels(judgements, tmp_path / f"qrels{suffix}")
    ours = measure(run, judgements).values["ndcg@10"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ranx.evaluate(
            ranx.Qrels.from_file(str(tmp_path / f"qrels{suffix}")),
            ranx.Run.from_file(str(tmp_path / f"run{suffix}")),
            "ndcg@10",
            return_mean=False,
        )
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    qrels = ir_measures.read_trec_qrels(str(tmp_path / f"qrels{suffix}"))
    read = ir_measures.read_trec_run(str(tmp_path / f"run{suffix}"))
    found = {
        one.query_id: one.value
        for one in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, read)
    }
    np.testing.assert_allclose(
        ours, [found[escaped(one.user_id)] for one in judgements], atol=1e-12
    )
