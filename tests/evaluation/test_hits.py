"""The table of hits gives what the definitions give, bit for bit."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import hits as hits_module
from evaluation.hits import FROM_SUMS, hits
from evaluation.judgements import Judgement
from evaluation.metrics import METRICS, per_user

AS_OF = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS = [f"i{number:02d}" for number in range(14)]

rankings = st.lists(st.sampled_from(ITEMS), unique=True, max_size=14)
choices = st.frozensets(st.sampled_from([*ITEMS, "elsewhere"]), max_size=9)
users = st.lists(st.tuples(rankings, choices), max_size=8)
depths = st.lists(st.integers(1, 20), min_size=1, max_size=4, unique=True)


def judged(chosen):
    return [
        Judgement(user_id=f"u{number}", as_of=AS_OF, item_ids=item_ids)
        for number, item_ids in enumerate(chosen)
    ]


def test_every_defined_metric_can_be_read_from_the_table():
    assert FROM_SUMS.keys() == METRICS.keys()


@settings(max_examples=200, deadline=None)
@given(users=users, ks=depths)
def test_all_values_equal_the_plain_definitions_exactly(users, ks):
    ranked = [one for one, _ in users]
    judgements = judged(chosen for _, chosen in users)
    found = hits(ranked, judgements, depth=max(ks)).values(dict.fromkeys(METRICS, ks))
    for name, metric in METRICS.items():
        for k in ks:
            plain = [metric(one, chosen, k) for one, chosen in users]
            assert found[f"{name}@{k}"].tolist() == plain, (name, k)
            assert per_user(ranked, judgements, metric, k).tolist() == plain


def test_blocks_of_users_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    ranked = [[ITEMS[n] for n in rng.permutation(14)[: rng.integers(0, 14)]] for _ in range(50)]
    judgements = judged(
        frozenset(ITEMS[n] for n in rng.permutation(14)[: rng.integers(0, 6)]) for _ in range(50)
    )
    wanted = dict.fromkeys(METRICS, (1, 5, 14))
    whole = hits(ranked, judgements, depth=14).values(wanted)
    monkeypatch.setattr(hits_module, "BLOCK_VALUES", 40)
    parts = hits(ranked, judgements, depth=14).values(wanted)
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_a_metric_of_ones_own_goes_user_by_user():
    def last(ranked, relevant, k):
        return float(ranked[:k][-1] in relevant)

    judgements = judged([frozenset({"i01"}), frozenset({"i01"})])
    assert per_user([["i00", "i01"], ["i01", "i02"]], judgements, last, 2).tolist() == [1, 0]


def test_what_is_not_aligned_or_has_no_depth_is_refused():
    with pytest.raises(ValueError, match="1 rankings for 0 judgements"):
        hits([["a"]], [], depth=1)
    with pytest.raises(ValueError, match="k >= 1"):
        hits([], [], depth=0)
