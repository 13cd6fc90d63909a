from datetime import UTC, datetime

import numpy as np
import pytest

from embedders.probes import Probes
from embedders.vectors import Space
from feature_repo import probes
from feature_repo.base import StoreError
from feature_repo.store import Store

CREATED = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def made(*, sign: float = 1.0) -> Probes:
    vectors_KD = sign * np.eye(3, dtype=np.float32)[:2]
    return Probes(item_ids=("probe-a", "probe-ü"), vectors_KD=vectors_KD, created=CREATED)


def test_probes_come_back_as_they_were_kept(store: Store, space: Space) -> None:
    assert store.probes(space) is None
    store.write_probes(space, made())
    found = store.probes(space)
    assert found is not None
    assert (found.item_ids, found.created) == (("probe-a", "probe-ü"), CREATED)
    np.testing.assert_array_equal(found.vectors_KD, made().vectors_KD)


def test_later_probes_replace_earlier_ones(store: Store, space: Space) -> None:
    store.write_probes(space, made())
    store.write_probes(space, made(sign=-1))
    found = store.probes(space)
    assert found is not None
    assert found.vectors_KD[0, 0] == -1
    assert [path.name for path in (store.root / "probes").iterdir()] == [
        f"{space.space_id}.safetensors"
    ]


def test_damaged_probes_say_what_to_do(store: Store, space: Space) -> None:
    store.write_probes(space, made())
    file = probes.path(store.root, space)
    whole = file.read_bytes()
    for damaged in (b"", b"{", whole[:-4], whole.replace(b"probe-a", b'probe"a')):
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"is damaged .* --repair"):
            store.probes(space)
