"""Every positive has one cause, and all of them add up."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evaluation.judgements import Judgement
from evaluation.ledger import Cause, Holdings, ledger, trace
from evaluation.routes import Exact
from evaluation.runs import Run
from evaluation.slices import ItemFacts, UserFacts

CUT = datetime(2024, 3, 1, tzinfo=UTC)
CANDIDATES = ["c1", "c2", "c3"]
LIMIT, K = 3, 1


def became(item_id, *, unknown=False, candidates=CANDIDATES, final=None, ranks=None, **held):
    """The cause under which one user's only choice is counted."""
    judgement = Judgement(
        user_id="u",
        as_of=CUT,
        item_ids=frozenset() if unknown else frozenset({item_id}),
        unknown_item_ids=frozenset({item_id} if unknown else ()),
    )
    items = frozenset({*CANDIDATES, "x"})
    holdings = replace(Holdings(item_ids=items, with_vector=items), **held)
    (found,) = trace(
        [judgement],
        retrieved=Run(name="retrieved", rankings={"u": candidates}),
        final=Run(name="final", rankings={"u": final or candidates}),
        exact=Exact(ranks={"u": ranks or {}}, overlap={}),
        holdings=holdings,
        limit=LIMIT,
        k=K,
    )
    return found


def test_a_choice_is_delivered_where_the_final_order_has_it_first():
    found = became("c2", final=["c2", "c1", "c3"], ranks={"c2": 2})
    assert found.cause is Cause.DELIVERED
    assert (found.exact_rank, found.retrieval_rank, found.final_rank) == (2, 2, 1)


def test_a_candidate_below_k_is_ranked_out():
    assert became("c2", ranks={"c2": 2}).cause is Cause.RANKED_OUT


def test_what_exact_search_has_below_k_lies_below_k():
    found = became("x", ranks={"x": 9})
    assert (found.cause, found.exact_rank) == (Cause.BELOW_K, 9)


def test_what_exact_search_has_among_the_first_was_missed_by_the_index():
    assert became("x", ranks={"x": LIMIT}).cause is Cause.MISSED_BY_INDEX


def test_what_has_a_vector_but_no_exact_rank_was_filtered():
    assert became("x").cause is Cause.FILTERED


def test_a_stale_vector_is_the_cause_before_what_follows_from_it():
    stale = frozenset({"x", "c2"})
    assert became("x", ranks={"x": 9}, stale=stale).cause is Cause.STALE
    assert became("c2", ranks={"c2": 2}, stale=stale).cause is Cause.STALE
    delivered = became("c2", final=["c2", "c1", "c3"], stale=stale)
    assert delivered.cause is Cause.DELIVERED


def test_an_item_without_any_vector_is_lost_for_want_of_one():
    assert became("x", with_vector=frozenset(CANDIDATES)).cause is Cause.NO_VECTOR


def test_an_item_whose_vector_the_store_has_and_the_index_lacks_is_stale():
    bare = {"with_vector": frozenset(CANDIDATES), "stale": frozenset({"x"})}
    assert became("x", **bare).cause is Cause.STALE


def test_what_catalog_or_generation_lack_is_not_in_the_catalog():
    assert became("x", unknown=True).cause is Cause.NOT_IN_CATALOG
    assert became("x", item_ids=frozenset(CANDIDATES)).cause is Cause.NOT_IN_CATALOG


def test_all_positives_are_counted_once_in_the_whole_and_in_each_group(report):
    found = report.ledger
    assert sum(found.counts.values()) == found.num_positives == 635
    assert sum(num for _, num in found.depths) == found.counts[Cause.BELOW_K]
    groups = {}
    for part in found.parts:
        assert sum(part.counts.values()) == part.num_positives
        groups[part.group] = groups.get(part.group, 0) + part.num_positives
    assert groups["items"] == groups["history"] == found.num_positives


def test_the_ledger_meets_the_metrics(world, report):
    """Delivered and ranked out together are what retrieval found; the rest it did not."""
    counts = report.ledger.counts
    moved = report.movement
    found = moved.num_up + moved.num_same + moved.num_down
    stale_found = found - counts[Cause.DELIVERED] - counts[Cause.RANKED_OUT]
    assert 0 <= stale_found <= counts[Cause.STALE]
    assert counts[Cause.NOT_IN_CATALOG] == sum(
        len(one.unknown_item_ids) for one in world.judgements
    )
    assert report.ledger.num_unreachable == (
        counts[Cause.NOT_IN_CATALOG] + counts[Cause.NO_VECTOR] + counts[Cause.FILTERED]
    )


def test_nobody_judged_leaves_nothing_to_trace():
    facts = {"items": ItemFacts.of(popularity=[]), "users": UserFacts()}
    with pytest.raises(ValueError, match="no positive"):
        ledger((), (), final="rerank", limit=LIMIT, k=K, **facts)
