"""What the stages share agrees with the catalog and the store."""

from datetime import timedelta
from pathlib import Path

import pytest

from embedders.items import Modality
from retrieval.candidates import Query
from sommelier.settings_file import load
from sommelier.workspace import Workspace, events_key, existing


@pytest.fixture(scope="module")
def workspace(built: Path) -> Workspace:
    return Workspace(load(built))


def test_vectors_are_of_the_catalogs_items_in_every_modality(workspace: Workspace) -> None:
    items = workspace.item_vectors
    assert list(items.item_ids) == sorted(workspace.item_ids)
    assert items.modalities == (Modality.AUDIO, Modality.GRAPH, Modality.IMAGE, Modality.TEXT)
    assert workspace.user_vectors is not None
    assert workspace.user_vectors.space == items.space(Modality.GRAPH)


def test_every_item_has_a_title(workspace: Workspace) -> None:
    assert workspace.titles.keys() == set(workspace.item_ids)


def test_histories_end_before_the_moment(workspace: Workspace) -> None:
    cut = workspace.timeline.cut
    (events,) = workspace.histories([("user-0001", cut)])
    assert events
    assert max(event.timestamp for event in events if event.timestamp) < cut


def test_the_retriever_for_training_finds_unmet_items(workspace: Workspace) -> None:
    until = workspace.timeline.graph_until
    retriever = workspace.retriever(workspace.settings.pooling, until=until)
    (events,) = workspace.histories([("user-0001", until + timedelta(days=1))])
    query = Query(user_id="user-0001", history=events, as_of=until + timedelta(days=1))
    found = retriever.retrieve(query, limit=5)
    assert len(found) == 5
    assert not {one.item_id for one in found} & {event.item_id for event in events}


def test_an_event_more_is_another_key(workspace: Workspace) -> None:
    events = workspace.catalog.interactions
    assert events_key(events) == events_key(events.take(list(range(events.num_rows))))
    assert events_key(events) != events_key(events.slice(1))


def test_a_missing_path_names_its_repair(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone is missing: run `sommelier train`"):
        existing(tmp_path / "gone", repair="run `sommelier train`")
