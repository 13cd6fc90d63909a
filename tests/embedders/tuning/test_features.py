"""One row for every item, zeros where there is nothing."""

import numpy as np
import pytest

from embedders.items import Modality
from embedders.tuning.features import Features, aligned
from embedders.vectors import Embeddings, Space

SPACE = Space(modality=Modality.TEXT, encoder="e", revision="1", dim=2)


def test_rows_follow_the_items_and_those_without_are_absent() -> None:
    vectors = np.array([[1, 0], [0, 1]], dtype=np.float32)
    embeddings = Embeddings(space=SPACE, item_ids=["b", "q"], vectors_ND=vectors)
    features = aligned(embeddings, ["a", "b"])
    assert features.is_present_I.tolist() == [False, True]
    assert features.vectors_ID.tolist() == [[0, 0], [1, 0]]
    assert features.dim == 2


def test_any_change_changes_the_digest() -> None:
    ones = np.ones((2, 2), dtype=np.float32)
    both = Features(vectors_ID=ones, is_present_I=np.array([True, True]))
    moved = ones.copy()
    moved[1, 1] += 1e-6
    assert both.digest == Features(vectors_ID=ones.copy(), is_present_I=both.is_present_I).digest
    assert both.digest != Features(vectors_ID=moved, is_present_I=both.is_present_I).digest


def test_bad_features_are_refused() -> None:
    ones = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="not zeros"):
        Features(vectors_ID=ones, is_present_I=np.array([True, False]))
    with pytest.raises(ValueError, match="a row and a presence"):
        Features(vectors_ID=ones, is_present_I=np.array([True]))
    with pytest.raises(ValueError, match="not finite"):
        Features(vectors_ID=ones * np.nan, is_present_I=np.array([True, True]))
