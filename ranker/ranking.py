"""The final order: which items, with which scores, judged by whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from embedders.items import Modality


class Status(StrEnum):
    """What became of one candidate; a missing item is never an error of the whole request."""

    OK = "ok"
    UNKNOWN_ITEM = "unknown_item"
    """The catalog of this generation does not hold it; it is not ranked."""
    MISSING_VECTORS = "missing_vectors"
    """No modality of it is present; it is ranked by the learned absent vectors alone."""
    TRUNCATED = "truncated"
    """Ranked, but its text was too long for the LLM and was cut."""
    NOT_SCORED = "not_scored"
    """For lack of time it stands where retrieval put it, behind all that were scored."""
    FILTERED = "filtered"
    """The request's filter excludes it; it is not ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a score comes about: `base` and all contributions add up to it."""

    base: float
    """The score that the item would have if it had no vector in any block."""
    contributions: Mapping[str, float]
    """Each block's Shapley value, by its name (a modality's, or "sequence"); 0 of a block that
    the item is not in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItem:
    """One item of the answer."""

    item_id: str
    rank: int
    """From 1; 0 for an item that could not be ranked."""
    score: float
    """Larger is better: the retriever's calibrated score plus logit(yes) - logit(no), at the weight
    that the calibrator gives it. Of an item that was not scored, the retriever's part alone: it
    does not compare with the others."""
    logit: float
    """The LLM's part alone: logit(yes) - logit(no), in float32; 0 of an item not scored."""
    status: Status
    retrieval_rank: int
    """From 1; 0 where the candidate did not come from retrieval."""
    retrieval_score: float
    present: tuple[Modality, ...] = ()
    """The modalities that the item's vectors covered, by name."""
    probability: float | None = None
    """How likely it is to be chosen from such a list; None where nothing was calibrated."""
    explanation: Explanation | None = None
    """None where none was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Best first; equal scores fall by item id; items that could not be ranked come last.

    One that is not complete has the items that were scored first, then the others in retrieval's
    order.
    """

    items: tuple[RankedItem, ...]
    generation_id: str
    judged_by: str
    """The reranker's name, e.g. `llm` or `retrieval_order`."""
    logit_weight: float = 1.0
    """What the LLM's logit counts in every score, as calibrated."""
    num_scored: int = -1
    """How many candidates were scored; of a ranking that does not say, all that are ranked."""
    tokens_ahead: int = 0
    """What has to be computed until the next better ranking, in tokens of the LLM; 0 of the
    complete one."""

    def __post_init__(self) -> None:
        if self.num_scored < 0:
            num_ranked = sum(item.rank > 0 for item in self.items)
            object.__setattr__(self, "num_scored", num_ranked)

    def prior(self, item: RankedItem) -> float:
        """An item's score without the LLM's part: the retriever's findings, calibrated."""
        return item.score - self.logit_weight * item.logit
