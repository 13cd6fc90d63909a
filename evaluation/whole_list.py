"""A run in, what its lists show of the catalog out: coverage, inequality, novelty.

None of these asks what users chose, so a good value is no success by itself: read them beside the
metrics of right answers. Coverage and inequality belong to the run as a whole and have no
interval: a resample of users shows fewer distinct items than the users themselves, so a bootstrap
would be wrong, not merely wide. Novelty is a mean over users and has one like every other mean.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.significance import Interval, bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeList:
    """What the first k of every list show."""

    k: int
    coverage: float
    """The share of the catalog that is shown to anybody."""
    gini: float
    """Inequality of how often items are shown: 0 where all are equally often, near 1 where one is
    shown to everybody and no other to anybody. Items that are never shown count."""
    novelty: Interval | None
    """Mean self-information in bits, over users; None where nothing is shown to anybody."""
    num_users_without: int
    """Users to whom nothing is shown: they have no novelty."""


def whole_list(
    run: Run,
    judgements: Sequence[Judgement],
    *,
    catalog: Collection[str],
    num_fans: Mapping[str, int],
    num_users: int,
    k: int = 10,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> WholeList:
    """All of them at one k, over the judged users.

    Args:
        run: Its rankings.
        judgements: Who is looked at.
        catalog: The items that could be shown.
        num_fans: Item -> distinct users before the cut; an item that is not in it has none.
        num_users: Distinct users before the cut.
        k: How much of each list is looked at.
        samples, seed, level: Of novelty's interval.

    Raises:
        ValueError: an empty catalog, a shown item outside of it, a judged user who is missing, k
            below 1, or an item with more fans than there are users.
    """
    if k < 1:
        raise ValueError(f"a list is looked at from k = 1 on, got {k}")
    shown = [ranked[:k] for ranked in run.aligned(judgements)]
    counts = exposure(shown, catalog)
    novelty_U = novelty(shown, num_fans=num_fans, num_users=num_users)
    known_U = novelty_U[~np.isnan(novelty_U)]
    return WholeList(
        k=k,
        coverage=float((counts > 0).mean()),
        gini=gini(counts),
        novelty=bootstrap(known_U, samples=samples, seed=seed, level=level)
        if len(known_U)
        else None,
        num_users_without=len(novelty_U) - len(known_U),
    )


def exposure(shown: Sequence[Sequence[str]], catalog: Collection[str]) -> NDArray[np.int64]:
    """How often each item of the catalog is shown, in the order of ids.

    Raises:
        ValueError: an empty catalog, or an item that it does not hold.
    """
    times = Counter(chain.from_iterable(shown))
    known = sorted(frozenset(catalog))
    if not known:
        raise ValueError("the catalog is empty, so nothing can be shown of it")
    strangers = sorted(times.keys() - frozenset(known))
    if strangers:
        raise ValueError(
            f"{len(strangers)} shown items are not in the catalog, the first is {strangers[0]!r}"
        )
    return np.array([times[item_id] for item_id in known], dtype=np.int64)


def gini(counts_N: NDArray[np.int64]) -> float:
    """Gini coefficient: mean absolute difference of all pairs, by twice the mean.

    sum over i of (2 i - N - 1) x_i, divided by N sum of x_i, with x rising and i from 1. 0 where
    all counts are 0.
    """
    rising_N = np.sort(counts_N).astype(np.float64)
    total = float(rising_N.sum())
    if not total:
        return 0.0
    num_items = len(rising_N)
    weights_N = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float(weights_N @ rising_N / (num_items * total))


def novelty(
    shown: Sequence[Sequence[str]], *, num_fans: Mapping[str, int], num_users: int
) -> NDArray[np.float64]:
    """Each user's mean self-information of the items shown, in bits; NaN where none is.

    An item that f of n users had met carries -log2((f + 1) / (n + 1)) bits (Zhou et al., PNAS
    2010, with one more user who has met everything: else an item without fans would carry
    infinitely much, and one cold item would hide every other).

    Raises:
        ValueError: an item has more fans than there are users.
    """
    most = max(num_fans.values(), default=0)
    if most > num_users:
        raise ValueError(f"an item has {most} fans among {num_users} users")
    bits = {item_id: math.log2((num_users + 1) / (fans + 1)) for item_id, fans in num_fans.items()}
    unknown = math.log2(num_users + 1)
    return np.array(
        [
            sum(bits.get(item_id, unknown) for item_id in items) / len(items) if items else math.nan
            for items in shown
        ],
        dtype=np.float64,
    )
