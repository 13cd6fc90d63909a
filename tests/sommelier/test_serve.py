"""A published generation answers over gRPC as it does in this process."""

from pathlib import Path

import pytest

from ranker.answers import RankerError
from ranker.loaded import LoadedGeneration
from ranker.server import running
from retrieval.candidates import Query
from sommelier import ask
from sommelier.serve import loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace

USER = "user-0003"

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture(scope="module")
def serving(built: Path) -> LoadedGeneration:
    return loaded(Workspace(load(built)), watch=Unwatched())


def test_a_remote_answer_is_the_local_one(serving: LoadedGeneration) -> None:
    local = ask.recommend(serving, Query(user_id=USER), top_k=10, num_candidates=100)
    with running(serving) as server:
        remote = ask.recommend_from(server.address, user_id=USER, top_k=10, timeout_s=30)
    assert remote.lines == local.lines
    assert remote.generation_id == local.generation_id == "g-000001"
    assert remote.source == server.address


def test_reranking_brought_items_agrees_too(serving: LoadedGeneration) -> None:
    items = ["box-0004", "box-0002", "nothing", "box-0009"]
    local = ask.rerank(serving, user_id=USER, item_ids=items)
    with running(serving) as server:
        remote = ask.rerank_from(server.address, user_id=USER, item_ids=items, timeout_s=30)
    assert remote.lines == local.lines
    assert [line.item_id for line in local.lines][-1] == "nothing"


def test_a_server_tells_an_unknown_user(serving: LoadedGeneration) -> None:
    with running(serving) as server, pytest.raises(RankerError, match="UNKNOWN_USER"):
        ask.recommend_from(server.address, user_id="nobody", top_k=3, timeout_s=30)


def test_nothing_of_the_users_past_is_recommended(serving: LoadedGeneration) -> None:
    reply = ask.recommend(serving, Query(user_id=USER), top_k=60, num_candidates=60)
    met = {event.item_id for event in serving.history(USER) or ()}
    assert met
    assert not met & {line.item_id for line in reply.lines}
