"""Opinions and their songs' vectors in, the scores of logistic regression and boosted trees out.

They read the very same facts as the ranker: the participant as columns instead of words, the text
vector, and the audio frames' maximum over time, centered and of unit length as the ranker gets
them. Every block of columns is scaled to the same overall size, so that the text's 384 dimensions
do not drown the participant's few.

Shape legend: O opinions, P facts of a person, F columns.
"""

import warnings
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from _emotify import NUM_FRAMES, Emotify, facts, labels
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from embedders.items import Modality
from retrieval.concatenated import ItemVectors

Baseline = Literal["logistic", "boosted"]
C = (0.01, 0.1, 1.0, 10.0)
"""Of logistic regression, the inverse of its penalty."""
TREES = (20, 50, 100)
"""Of boosting, each two levels deep."""


def columns(
    known: Emotify, items: ItemVectors, *, reads: Collection[Modality], with_felt: bool
) -> NDArray[np.float32]:
    """What the baselines read of each opinion, [O, F]."""
    rows = [items.row_of[one.song] for one in known.opinions]
    person_OP = facts(known, with_felt=with_felt)
    blocks = [person_OP / np.sqrt(person_OP.shape[1])]
    for modality in sorted(reads):
        vectors_ND = items.block(modality)
        if modality is Modality.AUDIO:
            vectors_ND = vectors_ND.reshape(len(vectors_ND), NUM_FRAMES, -1).max(axis=1)
            vectors_ND = vectors_ND - vectors_ND.mean(axis=0)
            vectors_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        blocks.append(vectors_ND[rows])
    return np.concatenate(blocks, axis=1)


def scores(
    kind: Baseline,
    columns_OF: NDArray[np.float32],
    known: Emotify,
    *,
    learned: NDArray[np.int64],
    judged: NDArray[np.int64],
    setting: float,
) -> NDArray[np.float64]:
    """Fit on some opinions, score others.

    Args:
        kind: Which of the two.
        columns_OF: As `columns` gives them.
        known: The set.
        learned: The places of the opinions to fit on.
        judged: Of those to score.
        setting: One of `C`, or of `TREES`.
    """
    model: Any
    if kind == "logistic":
        model = LogisticRegression(C=setting, max_iter=2000)
    else:
        model = GradientBoostingClassifier(n_estimators=int(setting), max_depth=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(columns_OF[learned], labels(known, learned))
    found: NDArray[np.float64] = model.decision_function(columns_OF[judged])
    return found
