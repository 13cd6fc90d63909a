from embedders.items import Reject
from feature_repo.store import Store


def test_what_was_set_aside_twice_is_listed_once_with_its_last_reason(store: Store) -> None:
    row = Reject(source="items", key="row 3", reason="no id")
    again = Reject(source="items", key="row 3", reason="no title")
    store.write_rejects([row])
    store.write_rejects([again, Reject(source="events", key="row 3", reason="no user")])
    assert [(one.source, one.reason) for one in store.rejects()] == [
        ("events", "no user"),
        ("items", "no title"),
    ]


def test_nothing_set_aside_writes_no_part(store: Store) -> None:
    assert store.write_rejects([]) == 0
    assert list(store.root.rglob("*.parquet")) == []
