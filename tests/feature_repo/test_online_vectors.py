"""Our way to the vectors answers what Feast's own online read answers, on the same tables."""

from pathlib import Path

import numpy as np
import pytest

from embedders.items import EPOCH, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo.base import StoreError
from feature_repo.store import Store
from feature_repo.tables import vector_view

IDS = ["plain", "", "with space", "Æble", "日本", "a'b\"c", "x" * 300, *map(str, range(200))]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, imported_feast: None) -> tuple[Store, Space]:
    """Vectors of ids of every kind, long enough that protobuf needs two bytes for their length."""
    store = Store(tmp_path_factory.mktemp("odd"))
    space = Space(modality=Modality.IMAGE, encoder="random", revision="1", dim=48)
    vectors_ND = normalize(np.random.default_rng(1).standard_normal((len(IDS), space.dim)))
    store.write(
        Embeddings(space=space, item_ids=IDS, vectors_ND=vectors_ND),
        content_hashes=IDS,
        event_timestamps=[EPOCH] * len(IDS),
    )
    store.apply()
    store.materialize(EPOCH)
    return store, space


def test_the_answer_is_feasts_own(odd: tuple[Store, Space]) -> None:
    from feature_repo.online_vectors import OnlineVectors

    store, space = odd
    asked = [*IDS[::-1], "nothing", "plain", "Nothing"]
    leaf = store.feature_store
    view = leaf._view(vector_view(space).name)
    direct = OnlineVectors(leaf._feast)
    assert direct._sqlite is not None
    through_feast = OnlineVectors(leaf._feast)
    through_feast._sqlite = None
    ours_ND, is_ours_N = direct.read(view, asked, dim=space.dim)
    theirs_ND, is_theirs_N = through_feast.read(view, asked, dim=space.dim)
    np.testing.assert_array_equal(ours_ND, theirs_ND)
    np.testing.assert_array_equal(is_ours_N, is_theirs_N)
    assert is_ours_N.tolist() == [True] * len(IDS) + [False, True, False]


def test_a_value_without_content_is_absent(imported_feast: None) -> None:
    from feast.protos.feast.types.Value_pb2 import NULL, Value

    from feature_repo.online_vectors import to_matrix

    nulls = [Value().SerializeToString(), Value(null_val=NULL).SerializeToString()]
    vectors_ND, is_present_N = to_matrix([*nulls, None], ["a", "b", "c"], dim=3, name="v")
    assert vectors_ND.tolist() == [[0, 0, 0]] * 3
    assert not is_present_N.any()


def test_vectors_of_any_length_are_decoded(imported_feast: None) -> None:
    from feast.protos.feast.types.Value_pb2 import FloatList, Value

    from feature_repo.online_vectors import to_matrix

    for dim in (1, 2, 31, 32, 127, 128, 4096, 70_000):
        floats = np.random.default_rng(dim).standard_normal(dim).astype(np.float32)
        packed = Value(float_list_val=FloatList(val=floats.tolist())).SerializeToString()
        vectors_ND, is_present_N = to_matrix([packed, None], ["a", "b"], dim=dim, name="v")
        assert is_present_N.tolist() == [True, False]
        np.testing.assert_array_equal(vectors_ND, np.stack([floats, np.zeros(dim, np.float32)]))


def test_a_missing_database_says_what_to_run(odd: tuple[Store, Space], tmp_path: Path) -> None:
    store, space = odd
    copy = Store(tmp_path / "copy")
    copy.write(store.read(space), content_hashes=IDS, event_timestamps=[EPOCH] * len(IDS))
    copy.apply()
    (copy.root / "online.db").unlink()
    with pytest.raises(StoreError, match="materialize"):
        copy.feature_store.read_online_vectors(vector_view(space).name, IDS, dim=space.dim)


def test_a_closed_store_opens_again_when_it_is_asked(odd: tuple[Store, Space]) -> None:
    store, space = odd
    for _ in range(2):
        found = store.feature_store.read_online_vectors(vector_view(space).name, IDS, dim=space.dim)
        assert found[1].all()
        assert store.feature_store._online_vectors._sqlite._idle
        store.feature_store.close()
        assert not store.feature_store._online_vectors._sqlite._idle
