"""Judged items and where each of them got lost in, one cause for each of them out.

Every positive, that is every (user, item) that the user went on to choose, is counted under exactly
one cause, the first that applies in the order of `Cause`; those that were delivered are counted
too, so that the counts add up to all positives. What the catalog does not hold is a positive here,
though no metric knows it.

Exact ranks say what a larger K would bring: a positive of exact rank r is among the first K of an
exact search for every K >= r. A positive without an exact rank is found by no K.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum

from evaluation.judgements import Judgement
from evaluation.routes import Exact
from evaluation.runs import Run
from evaluation.slices import ItemFacts, UserFacts, parts

DEPTHS = (2, 5, 10, 50)  # ends of the bins of exact ranks below K, in multiples of K


class Cause(StrEnum):
    """Why a positive was not delivered, in the order in which causes are asked for."""

    NOT_IN_CATALOG = "not_in_catalog"
    """The catalog, or the generation made of it, does not hold the item."""
    NO_VECTOR = "no_vector"
    """It is held, but neither index nor store has a vector of it in any block."""
    STALE = "stale"
    """The store holds another vector of it than the index, or one of a foreign space."""
    FILTERED = "filtered"
    """It was hidden, excluded, or left out by the query's filter."""
    MISSED_BY_INDEX = "missed_by_index"
    """An exact search has it among the first K; the index did not find it."""
    BELOW_K = "below_k"
    """An exact search has it too, but below K."""
    RANKED_OUT = "ranked_out"
    """It was a candidate, and stands below the headline's k in the final order."""
    DELIVERED = "delivered"
    """It is among the first k of the final order: not lost."""


UNREACHABLE = (Cause.NOT_IN_CATALOG, Cause.NO_VECTOR, Cause.FILTERED)
"""Causes that no K mends: exact search does not rank these items at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the answering generation holds."""

    item_ids: AbstractSet[str]
    with_vector: AbstractSet[str]
    """Those with a vector in at least one block."""
    stale: AbstractSet[str] = frozenset()
    """Those whose indexed vectors are not what the store holds now, or lack what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positive:
    """One chosen item of one user, and what became of it. Ranks count from 1; None: in no place."""

    user_id: str
    item_id: str
    cause: Cause
    exact_rank: int | None
    retrieval_rank: int | None
    final_rank: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """The ledger of one slice."""

    group: str
    name: str
    num_positives: int
    counts: Mapping[str, int]
    """Every cause, also those that nothing was lost by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the positives went."""

    final: str
    """The order that was delivered: `rerank` or `retrieval_order`."""
    k: int
    """Delivered means among the first k."""
    limit: int
    """Candidates for each user: K."""
    num_users: int
    num_positives: int
    counts: Mapping[str, int]
    depths: tuple[tuple[str, int], ...]
    """Positives below K by their exact ranks."""
    num_unreachable: int
    """Positives that no K can find."""
    parts: tuple[LedgerPart, ...]

    def share(self, cause: str) -> float:
        """Of all positives."""
        return self.counts[cause] / self.num_positives


def trace(
    judgements: Sequence[Judgement],
    *,
    retrieved: Run,
    final: Run,
    exact: Exact,
    holdings: Holdings,
    limit: int,
    k: int,
) -> tuple[Positive, ...]:
    """What became of every positive, by user as judged and by item id."""
    found = []
    for one in judgements:
        before = _ranks(retrieved, one)
        after = _ranks(final, one)
        ranks = exact.ranks.get(one.user_id, {})
        for item_id in sorted(one.item_ids | one.unknown_item_ids):
            positive = Positive(
                user_id=one.user_id,
                item_id=item_id,
                cause=Cause.DELIVERED,
                exact_rank=ranks.get(item_id),
                retrieval_rank=before.get(item_id),
                final_rank=after.get(item_id),
            )
            is_known = item_id in one.item_ids
            cause = _cause(positive, holdings, is_known=is_known, limit=limit, k=k)
            found.append(replace(positive, cause=cause))
    return tuple(found)


def ledger(
    positives: Sequence[Positive],
    judgements: Sequence[Judgement],
    *,
    items: ItemFacts,
    users: UserFacts,
    final: str,
    limit: int,
    k: int,
) -> Ledger:
    """Count the positives of these judgements, altogether and by slice.

    Raises:
        ValueError: there is no positive.
    """
    if not positives:
        raise ValueError("there is no positive to trace: nobody is judged")
    cause_of = {(one.user_id, one.item_id): one.cause for one in positives}
    whole = [replace(one, item_ids=one.item_ids | one.unknown_item_ids) for one in judgements]
    counts = _counts(list(cause_of.values()))
    return Ledger(
        final=final,
        k=k,
        limit=limit,
        num_users=len(judgements),
        num_positives=len(positives),
        counts=counts,
        depths=_depths(positives, limit),
        num_unreachable=sum(counts[cause] for cause in UNREACHABLE),
        parts=tuple(
            _part(part.group, part.name, part.judgements, cause_of)
            for part in parts(whole, items, users)
        ),
    )


def _cause(one: Positive, holdings: Holdings, *, is_known: bool, limit: int, k: int) -> Cause:
    is_delivered = one.final_rank is not None and one.final_rank <= k
    is_candidate = one.retrieval_rank is not None
    has_vector, is_stale = (one.item_id in held for held in (holdings.with_vector, holdings.stale))
    asked = (
        (Cause.DELIVERED, is_delivered),
        (Cause.NOT_IN_CATALOG, not is_known or one.item_id not in holdings.item_ids),
        (Cause.NO_VECTOR, not (has_vector or is_stale or is_candidate)),
        (Cause.STALE, is_stale),
        (Cause.RANKED_OUT, is_candidate),
        (Cause.FILTERED, one.exact_rank is None),
        (Cause.MISSED_BY_INDEX, one.exact_rank is not None and one.exact_rank <= limit),
    )
    return next((cause for cause, applies in asked if applies), Cause.BELOW_K)


def _ranks(run: Run, judgement: Judgement) -> dict[str, int]:
    ranked = run.rankings[judgement.user_id]
    return {
        item_id: rank
        for rank, item_id in enumerate(ranked, start=1)
        if item_id in judgement.item_ids
    }


def _counts(causes: Sequence[Cause]) -> dict[str, int]:
    counted = Counter(causes)
    return {cause.value: counted[cause] for cause in Cause}


def _part(
    group: str,
    name: str,
    judgements: Sequence[Judgement],
    cause_of: Mapping[tuple[str, str], Cause],
) -> LedgerPart:
    causes = [cause_of[one.user_id, item_id] for one in judgements for item_id in one.item_ids]
    return LedgerPart(group=group, name=name, num_positives=len(causes), counts=_counts(causes))


def _depths(positives: Sequence[Positive], limit: int) -> tuple[tuple[str, int], ...]:
    """How far below K: `101-200` where K is 100, and so on."""
    ranks = [
        one.exact_rank
        for one in positives
        if one.cause is Cause.BELOW_K and one.exact_rank is not None
    ]
    found, start = [], limit + 1
    for times in DEPTHS:
        end = times * limit
        found.append((f"{start}-{end}", sum(start <= rank <= end for rank in ranks)))
        start = end + 1
    found.append((f"{start}+", sum(rank >= start for rank in ranks)))
    return tuple(found)
