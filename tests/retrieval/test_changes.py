"""Changes come back from bytes as they were."""

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.changes import (
    Change,
    Delete,
    RebuildAbandoned,
    RebuildBegun,
    Upsert,
    from_bytes,
    to_bytes,
)


def test_an_upsert_comes_back_bit_by_bit() -> None:
    random = np.random.default_rng(0)
    parts = tuple(
        Embeddings(
            space=Space(modality=modality, encoder="æ", revision="1", dim=dim, preprocessing="p"),
            item_ids=ids,
            vectors_ND=normalize(random.normal(size=(len(ids), dim))),
        )
        for modality, dim, ids in ((Modality.TEXT, 3, ["a", "ß"]), (Modality.GRAPH, 2, []))
    )
    upsert = Upsert(vectors=parts, attributes={"ß": {"category": "Spiele", "price": "3"}})
    back = from_bytes(to_bytes(upsert))
    assert isinstance(back, Upsert)
    assert back.attributes == upsert.attributes
    for seen, part in zip(back.vectors, parts, strict=True):
        assert (seen.space, list(seen.item_ids)) == (part.space, part.item_ids)
        assert np.array_equal(seen.vectors_ND, part.vectors_ND)


@pytest.mark.parametrize(
    "change", [Delete(item_ids=("a", "b")), RebuildBegun(), RebuildAbandoned(), Upsert()]
)
def test_other_changes_come_back(change: Change) -> None:
    assert from_bytes(to_bytes(change)) == change


@pytest.mark.parametrize("content", [b"", b"abc", to_bytes(Delete(item_ids=("a",)))[:-3]])
def test_other_bytes_are_no_change(content: bytes) -> None:
    with pytest.raises(ValueError, match="no change that this version knows"):
        from_bytes(content)


def test_a_change_of_a_later_version_is_named() -> None:
    later = to_bytes(RebuildBegun()).replace(b"RebuildBegun", b"RebuildLater")
    with pytest.raises(ValueError, match="of kind 'RebuildLater'"):
        from_bytes(later)
