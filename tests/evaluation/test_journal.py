"""Finished batches are found again, whole or not at all."""

import pytest

from evaluation.journal import Batch, Journal, Outcome

OUTCOMES = (
    Outcome(
        user_id="u1",
        retrieved=["a", "b"],
        retrieval_score=[0.1 + 0.2, 1e-300],
        reranked=["b", "a"],
        score=[2.0, -1.0],
        logit=[0.5, 0.25],
        traced=["b"],
        exact_rank=[7],
        num_first=2,
        num_first_found=1,
    ),
    Outcome(user_id="u2", retrieved=[], retrieval_score=[]),
)
BATCH = Batch(
    outcomes=OUTCOMES, generation_ids=("g-1",), retrieve_s=0.5, rerank_s=1.5, exact_s=0.25
)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal", key="k1")


def test_a_batch_is_found_as_it_was_to_the_last_bit(journal):
    journal.write("without text", BATCH, start=256)
    assert journal.read("without text", start=256, user_ids=["u1", "u2"]) == BATCH


def test_another_route_place_or_user_is_not_found(journal):
    journal.write("full", BATCH, start=0)
    assert journal.read("without text", start=0, user_ids=["u1", "u2"]) is None
    assert journal.read("full", start=2, user_ids=["u1", "u2"]) is None
    assert journal.read("full", start=0, user_ids=["u1", "u3"]) is None


@pytest.mark.parametrize("damage", [b"", b"PAR1 and nothing more", None])
def test_a_damaged_file_counts_as_missing(journal, tmp_path, damage):
    journal.write("full", BATCH, start=0)
    (path,) = (tmp_path / "journal").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    assert journal.read("full", start=0, user_ids=["u1", "u2"]) is None


def test_a_journal_of_another_key_is_deleted_when_a_new_one_begins(tmp_path, journal):
    journal.write("full", BATCH, start=0)
    other = Journal(tmp_path / "journal", key="k2")
    assert other.read("full", start=0, user_ids=["u1", "u2"]) is None
    again = Journal(tmp_path / "journal", key="k1")
    assert again.read("full", start=0, user_ids=["u1", "u2"]) is None


def test_a_finished_journal_leaves_nothing(tmp_path, journal):
    journal.write("full", BATCH, start=0)
    journal.clear()
    assert not (tmp_path / "journal").exists()
    journal.clear()  # nor does it mind being cleared again
