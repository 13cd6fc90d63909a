"""A killed evaluation goes on where it stopped, and ends with the same report."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

from evaluation.evaluate import evaluate
from evaluation.journal import Journal
from evaluation.protocol import EvaluationConfig
from evaluation.report import as_dict
from tests.child import child
from tests.evaluation.small_world import lossy, make_world

NUM_USERS, BATCH = 60, 10
STOPS_AT = 34  # in the fourth batch: three are finished
CONFIG = EvaluationConfig(samples=50, batch_size=BATCH)
CHILD = """
import sys, time
from pathlib import Path
from evaluation.journal import Journal
from tests.evaluation.test_resume import STOPS_AT, go

def stop(user_id, num_reranked):
    if num_reranked == STOPS_AT:
        print("in the middle", flush=True)
        time.sleep(600)

go(Journal(Path(sys.argv[1]), key="k"), on_rerank=stop)
"""


def go(journal, *, on_rerank):
    world = make_world(num_users=NUM_USERS)
    retrieve, rerank = world.route(0.7, 0.5)
    reranked = []

    def noting(query, candidates):
        reranked.append(query.user_id)
        on_rerank(query.user_id, len(reranked))
        return rerank(query, candidates)

    return evaluate(
        world.judgements,
        retrieve=lossy(retrieve),
        rerank=noting,
        background=world.background,
        exact_ranks=world.exact_ranks(0.7),
        ablations={"text": world.route(0.35, 0.3)},
        config=CONFIG,
        journal=journal,
    )


def nothing(user_id, num_reranked):
    """Nobody is watching."""


def numbers(found):
    return as_dict(replace(found.report, manifest={}))


def test_a_run_killed_in_the_middle_goes_on_and_reports_the_same(tmp_path, repository):
    with child(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
    ) as process:
        assert process.stdout.readline() == b"in the middle\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    done = []
    resumed = go(Journal(tmp_path, key="k"), on_rerank=lambda user_id, _: done.append(user_id))
    assert len(done) == NUM_USERS - 3 * BATCH
    whole = go(None, on_rerank=nothing)
    assert numbers(resumed) == numbers(whole)
    assert resumed.runs["rerank"].scores == whole.runs["rerank"].scores
    assert resumed.positives == whole.positives


def test_a_finished_journal_is_read_without_asking_anybody(tmp_path):
    first = go(Journal(tmp_path, key="k"), on_rerank=nothing)
    asked = []
    again = go(Journal(tmp_path, key="k"), on_rerank=lambda user_id, _: asked.append(user_id))
    assert not asked
    assert numbers(again) == numbers(first)


def test_a_journal_of_another_evaluation_is_not_used(tmp_path):
    go(Journal(tmp_path, key="k"), on_rerank=nothing)
    asked = []
    go(Journal(tmp_path, key="other"), on_rerank=lambda user_id, _: asked.append(user_id))
    assert len(asked) == NUM_USERS
