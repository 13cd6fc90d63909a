"""Queries are made block by block, each as of its user's moment."""

from datetime import UTC, datetime, timedelta

import pytest

from embedders.items import Interaction
from evaluation.judgements import Judgement
from sommelier.evaluating import asked
from sommelier.evaluating.asked import AskedQueries

CUT = datetime(2024, 3, 1, tzinfo=UTC)
USERS = [f"u{number:02d}" for number in range(10)]
JUDGEMENTS = [
    Judgement(user_id=user_id, as_of=CUT + timedelta(days=n), item_ids=frozenset({"x"}))
    for n, user_id in enumerate(USERS)
]


@pytest.fixture
def reads(monkeypatch):
    """How many pairs were read at a time; blocks hold four."""
    monkeypatch.setattr(asked, "BLOCK", 4)
    return []


@pytest.fixture
def queries(reads):
    def histories(pairs):
        reads.append(len(pairs))
        return [
            (Interaction(item_id=f"of {user_id}", behavior="buy", timestamp=as_of),)
            for user_id, as_of in pairs
        ]

    seen = {user_id: frozenset({f"of {user_id}", "older"}) for user_id in USERS}
    return AskedQueries(JUDGEMENTS, histories=histories, seen=seen)


def test_each_query_is_its_users_own(queries):
    for judgement, query in zip(JUDGEMENTS, queries, strict=True):
        assert (query.user_id, query.as_of) == (judgement.user_id, judgement.as_of)
        assert query.history[0].item_id == f"of {judgement.user_id}"
        assert query.exclude == {f"of {judgement.user_id}", "older"}


def test_every_query_asks_about_the_behavior(reads):
    seen = dict.fromkeys(USERS, frozenset())
    made = AskedQueries(
        JUDGEMENTS, histories=lambda pairs: [()] * len(pairs), seen=seen, behavior="buy"
    )
    assert {query.behavior for query in made} == {"buy"}


def test_a_block_is_read_once_while_it_is_gone_through(queries, reads):
    assert len(queries) == 10
    assert not reads
    assert [one.user_id for start in range(0, 10, 2) for one in queries[start : start + 2]] == USERS
    assert reads == [4, 4, 2]


def test_places_are_those_of_any_sequence(queries):
    assert queries[-1].user_id == "u09"
    assert [one.user_id for one in queries[8:20]] == ["u08", "u09"]
    with pytest.raises(IndexError):
        queries[10]


def test_a_preference_is_that_of_the_users_own_moment_and_none_is_looked_up_unasked(reads):
    def told(pairs):
        return [f"{user_id} as of {as_of:%d}" for user_id, as_of in pairs]

    given = {
        "histories": lambda pairs: [()] * len(pairs),
        "seen": dict.fromkeys(USERS, frozenset()),
    }
    made = AskedQueries(JUDGEMENTS, preferences=told, **given)
    assert [query.preference for query in made[:2]] == ["u00 as of 01", "u01 as of 02"]
    assert {query.preference for query in AskedQueries(JUDGEMENTS, **given)} == {None}
