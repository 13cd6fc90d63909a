"""Short lists and a system in, what a published protocol calls its result out, by its name.

`full` is what `evaluate` measures and the only one to decide by. The others exist to stand beside
published numbers, each with popularity on the very same lists:

    msr/1+20         MLLM-MSR (AAAI 2025): the last item among 20 negatives; AUC, HR, MRR, NDCG at 5
    tmf/20           TMF (2024), as LLaRA has it: 20 candidates; HR at 1, and how many answers count
    atflrec/k-shot   ATFLRec (2024), as TALLRec has it: AUC after training on 16, 64 and 256 rows
    mmrec/full       MMRec's toolbox: recall and NDCG at 10 and 20 on a given split, full ranking

Where a paper leaves something open, `remarks` say how it is settled here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from evaluation.few_shot import Shots
from evaluation.sampled import ShortList, Values, at_k, is_valid, list_auc
from evaluation.significance import Interval, bootstrap_all

FULL, MSR, TMF, ATFLREC, MMREC = "full", "msr/1+20", "tmf/20", "atflrec/k-shot", "mmrec/full"
FORMAT = 1
SAMPLED = (
    "Negatives are sampled: not comparable with full ranking, which alone keeps the order of "
    "systems (Krichene and Rendle, KDD 2020)."
)
TIES = "Items of equal score count at the expected value over their orders."
UNTOUCHED = "No negative is an item that its user ever touched, before or after."
LAST = "The right answer is the user's last new choice, asked with all events before it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What a name stands for."""

    name: str
    source: str
    num_negatives: int = 0
    """Beside the one right answer; 0 where nothing is sampled."""
    remarks: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            name=MSR,
            source="MLLM-MSR, arXiv 2408.09698",
            num_negatives=20,
            remarks=(
                SAMPLED,
                LAST + " The released code takes the last of a user's six most popular items, "
                "which popularity alone nearly solves.",
                "AUC is taken in each user's list and averaged.",
                "With negatives drawn evenly, popularity alone goes far; drawn in proportion to "
                "popularity they take that away. Both are reported.",
                UNTOUCHED,
                TIES,
            ),
        ),
        Protocol(
            name=TMF,
            source="TMF, arXiv 2410.12228; candidates as in LLaRA, arXiv 2312.02445",
            num_negatives=19,
            remarks=(
                SAMPLED,
                LAST,
                "HR@1 is over all users, an invalid answer counting as wrong; hr@1_of_valid is "
                "over users with a valid one. A system that scores items is valid where it can "
                "judge any of the list.",
                "Negatives are drawn evenly.",
                UNTOUCHED,
                TIES,
            ),
        ),
        Protocol(
            name=ATFLREC,
            source="ATFLRec, arXiv 2409.08543; rows as in TALLRec, arXiv 2305.00447",
            num_negatives=1,
            remarks=(
                SAMPLED,
                "K rows are K / 2 pairs of a chosen item and an evenly drawn negative; tested on "
                "one such pair of each user. AUC is over all rows together.",
                "Few-shot is the ranker: vectors, graph and the retriever's weights beneath it "
                "were fitted on all events before graph_until and the cut.",
                UNTOUCHED,
                "The spread is the standard deviation over draws of the training rows.",
            ),
        ),
        Protocol(
            name=MMREC,
            source="MMRec, arXiv 2302.03497, as in PTMRec, arXiv 2502.15542",
            remarks=("Full ranking of all items that the user has not met in train or valid.",),
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a protocol found."""

    protocol: Protocol
    parts: Mapping[str, Mapping[str, Mapping[str, Interval | Shots]]]
    """Part (how negatives were drawn, or K) -> system -> measure -> value."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "format": FORMAT,
            "protocol": self.protocol.name,
            "source": self.protocol.source,
            "remarks": list(self.protocol.remarks),
            "facts": dict(self.facts),
            "parts": {
                part: {
                    system: {measure: _plain(value) for measure, value in measures.items()}
                    for system, measures in systems.items()
                }
                for part, systems in self.parts.items()
            },
        }


def named(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"no protocol {name!r}: choose {', '.join([FULL, *PROTOCOLS])}; {FULL} is what "
            "`sommelier evaluate` measures without a name"
        )
    return PROTOCOLS[name]


def msr_measures(scores_UK: Values) -> dict[str, Values]:
    """AUC in each list, and HR, MRR and NDCG at 5, [U]."""
    return {"auc": list_auc(scores_UK)} | at_k(scores_UK, 5)


def tmf_measures(scores_UK: Values) -> dict[str, Values]:
    """HR at 1 over everybody, and 1 where there was a valid answer, [U]."""
    return {"hr@1": at_k(scores_UK, 1)["hr@1"], "valid_ratio": is_valid(scores_UK)}


def intervals(
    measures: Mapping[str, Mapping[str, Values]], *, samples: int, seed: int, level: float
) -> dict[str, dict[str, Interval]]:
    """System -> measure -> mean and interval; all of them share the same resampled users."""
    flat = {
        f"{system} {name}": values_U
        for system, own in measures.items()
        for name, values_U in own.items()
    }
    found = bootstrap_all(flat, samples=samples, seed=seed, level=level)
    return {
        system: {name: found[f"{system} {name}"] for name in own}
        for system, own in measures.items()
    }


def of_valid(measures: Mapping[str, Values]) -> float:
    """HR at 1 among the users with a valid answer; 0 where nobody has one."""
    valid_U = measures["valid_ratio"] > 0
    return float(measures["hr@1"][valid_U].mean()) if valid_U.any() else 0.0


def list_facts(lists: Sequence[ShortList], num_judged: int) -> dict[str, int]:
    """How many users were asked, and how many could not be."""
    return {
        "num_users": len(lists),
        "num_without_negatives": num_judged - len(lists),
        "num_items_asked_of": len({one for each in lists for one in each.item_ids}),
    }


def _plain(value: Interval | Shots) -> dict[str, Any]:
    if isinstance(value, Shots):
        spread = {"mean": value.mean, "spread": value.spread}
        ends = {"least": float(np.min(value.values)), "most": float(np.max(value.values))}
        return spread | ends | {"values": list(value.values)}
    return asdict(value)
