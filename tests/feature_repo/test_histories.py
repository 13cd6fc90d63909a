import math
from datetime import timedelta

from embedders.items import EPOCH, Interaction
from feature_repo.histories import to_interactions


def test_lists_become_events_in_their_order() -> None:
    events = to_interactions(
        "ann", ["a", "b"], ["view", "buy"], times=[0, 1_500_000], weights=[math.nan, 0.5]
    )
    assert events == (
        Interaction(user_id="ann", item_id="a", behavior="view", timestamp=EPOCH),
        Interaction(
            user_id="ann",
            item_id="b",
            behavior="buy",
            timestamp=EPOCH + timedelta(seconds=1.5),
            weight=0.5,
        ),
    )
