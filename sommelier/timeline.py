"""Interactions and settings in, the two moments that part learning from judging out.

    events  |--- graph learns ---|--- ranker learns ---|--- judged ---|
                             graph_until              cut

The graph must not have seen the events that the ranker learns from: its vectors would know the
answers. A moment belongs to what follows it. Times are UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedders.items import EPOCH
from evaluation.order import TICK
from sommelier.settings import TimeSettings

MOST_TIMELESS = "give them a timestamp, or name time.graph_until and time.cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Where the past ends, for whom."""

    graph_until: datetime
    cut: datetime
    num_graph_events: int
    num_ranker_events: int
    num_judged_events: int

    @property
    def is_open(self) -> bool:
        """Nothing is left to be judged: everything is learned from."""
        return self.num_judged_events == 0


def timeline(interactions: pa.Table, settings: TimeSettings) -> Timeline:
    """The moments that the settings name, or those at the shares they name.

    Of events on the clock of a split (`evaluation.order`) they are where train and valid end.

    Raises:
        ValueError: no event has a time, or the moments leave nothing to learn from.
    """
    times = interactions["timestamp"].drop_null().cast(pa.int64()).to_numpy()
    if len(times) == 0:
        raise ValueError(
            f"none of the catalog's {interactions.num_rows} interactions has a timestamp, so "
            f"nothing can be learned before it is judged; {MOST_TIMELESS}"
        )
    times = np.sort(times)
    if settings.split == "time":
        graph_until = settings.graph_until or _at_share(times, settings.graph_share)
    else:
        graph_until = _end_of(interactions, "train")
    if settings.cut == "end":
        cut = _moment(int(times[-1]) + 1)
    elif settings.split == "time":
        cut = settings.cut or _at_share(times, settings.cut_share)
    else:
        cut = _end_of(interactions, "valid")
    # However a moment was written, it is the same one to whoever compares or prints it.
    graph_until, cut = graph_until.astimezone(UTC), cut.astimezone(UTC)
    if cut <= graph_until:
        raise ValueError(
            f"time: the cut ({cut.isoformat()}) must come after graph_until "
            f"({graph_until.isoformat()}), for the ranker learns from what lies between; "
            "choose a smaller graph_share or a later cut"
        )
    first, second = (
        int(np.searchsorted(times, round((one - EPOCH) / timedelta(microseconds=1))))
        for one in (graph_until, cut)
    )
    if first == 0 or second == first:
        raise ValueError(
            f"time: {first} events lie before graph_until ({graph_until.isoformat()}) and "
            f"{second - first} between it and the cut ({cut.isoformat()}); both need some. The "
            f"events run from {_moment(int(times[0])).isoformat()} to "
            f"{_moment(int(times[-1])).isoformat()}"
        )
    return Timeline(
        graph_until=graph_until,
        cut=cut,
        num_graph_events=first,
        num_ranker_events=second - first,
        num_judged_events=len(times) - second,
    )


def _end_of(interactions: pa.Table, band: str) -> datetime:
    """The moment at which a band of a split's clock ends."""
    of_band = interactions.filter(pc.equal(interactions["split"], band))
    last: datetime = pc.max(of_band["timestamp"]).as_py()
    return last + TICK


def _at_share(times: "np.ndarray[tuple[int], np.dtype[np.int64]]", share: float) -> datetime:
    return _moment(int(times[min(int(share * len(times)), len(times) - 1)]))


def _moment(microseconds: int) -> datetime:
    return (EPOCH + timedelta(microseconds=microseconds)).astimezone(UTC)
