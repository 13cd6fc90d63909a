"""Prompts of many examples in, where every token of them stands in one batch out.

Each row is an example's prefix, its branches one behind the other, and padding. A branch sees the
prefix and itself, and its positions go on from the prefix's end.

Shape legend: B examples, N branches of an example, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.prompts import Codes


@dataclass(slots=True, kw_only=True)
class Layout:
    """Where every token of the batch stands."""

    codes_BT: Codes
    """Padding is the word 0, seen by nobody."""
    positions_BT: NDArray[np.int64]
    before_BT: NDArray[np.int64]
    """The place of the token that each one follows in its prompt; -1 for none, and for padding."""
    mask_BTT: NDArray[np.bool_]
    ends_BN: NDArray[np.int64]
    """Each branch's last token."""


def lay_out(prefixes: Sequence[Codes], branches: Sequence[Sequence[Codes]]) -> Layout:
    """Sequences side by side: a prefix, then its branches, then padding."""
    whole = [np.concatenate([prefix, *own]) for prefix, own in zip(prefixes, branches, strict=True)]
    longest = max(len(one) for one in whole)
    shape = (len(whole), longest)
    codes_BT, positions_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segments_BT = np.full(shape, -1)  # 0 for the prefix, from 1 for each branch
    before_BT = np.full(shape, -1)
    ends_BN = np.zeros((len(whole), len(branches[0])), dtype=np.int64)
    for row, (prefix, own) in enumerate(zip(prefixes, branches, strict=True)):
        size = len(whole[row])
        codes_BT[row, :size] = whole[row]
        lengths = [len(prefix), *(len(branch) for branch in own)]
        segments_BT[row, :size] = np.repeat(np.arange(len(lengths)), lengths)
        positions = [np.arange(len(prefix)), *(len(prefix) + np.arange(n) for n in lengths[1:])]
        positions_BT[row, :size] = np.concatenate(positions)
        ends_N = np.cumsum(lengths)
        ends_BN[row] = ends_N[1:] - 1
        before_BT[row, :size] = np.arange(size) - 1
        before_BT[row, ends_N[:-1]] = len(prefix) - 1
    asks, seen = segments_BT[:, :, None], segments_BT[:, None, :]
    is_earlier_TT = np.tri(longest, dtype=bool)
    mask_BTT = is_earlier_TT & (seen >= 0) & ((seen == 0) | (seen == asks))
    mask_BTT |= np.eye(longest, dtype=bool)  # padding sees itself, lest it become NaN
    return Layout(
        codes_BT=codes_BT,
        positions_BT=positions_BT,
        before_BT=before_BT,
        mask_BTT=mask_BTT,
        ends_BN=ends_BN,
    )
