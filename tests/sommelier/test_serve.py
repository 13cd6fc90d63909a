"""A published generation answers over gRPC as it does in this process."""

from pathlib import Path

import pytest

from ranker.answers import RankerError
from ranker.loaded import LoadedGeneration
from ranker.service.server import running
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
    query = Query(user_id=USER)
    local = ask.recommend(serving, query, top_k=10, num_candidates=100, explain=True)
    with running(serving) as server:
        remote = ask.recommend_from(
            server.address, user_id=USER, top_k=10, timeout_s=30, explain=True
        )
    assert remote.lines == local.lines
    for line in remote.lines:
        assert line.explanation is not None
        total = line.explanation.base + sum(line.explanation.contributions.values())
        assert total == pytest.approx(line.score, rel=1e-9, abs=1e-9)
    assert remote.generation_id == local.generation_id == "g-000001"
    assert remote.source == server.address


def test_reranking_brought_items_agrees_too(serving: LoadedGeneration) -> None:
    items = ["box-0004", "box-0002", "nothing", "box-0009"]
    local = ask.rerank(serving, user_id=USER, item_ids=items, explain=True)
    with running(serving) as server:
        remote = ask.rerank_from(
            server.address, user_id=USER, item_ids=items, timeout_s=30, explain=True
        )
    assert remote.lines == local.lines
    assert [line.explanation is None for line in local.lines] == [False, False, False, True]
    assert [line.item_id for line in local.lines][-1] == "nothing"


def test_a_ranker_that_was_not_asked_about_behaviors_cannot_be(serving: LoadedGeneration) -> None:
    told = "foresees any choice alike"
    with pytest.raises(ValueError, match=told):
        ask.rerank(serving, user_id=USER, item_ids=["box-0004"], behavior="purchase")
    with running(serving) as server, pytest.raises(RankerError, match=told):
        ask.recommend_from(server.address, user_id=USER, top_k=3, timeout_s=30, behavior="purchase")


def test_a_server_tells_an_unknown_user(serving: LoadedGeneration) -> None:
    with running(serving) as server, pytest.raises(RankerError, match="UNKNOWN_USER"):
        ask.recommend_from(server.address, user_id="nobody", top_k=3, timeout_s=30)


def test_nothing_of_the_users_past_is_recommended(serving: LoadedGeneration) -> None:
    reply = ask.recommend(serving, Query(user_id=USER), top_k=60, num_candidates=60)
    met = {event.item_id for event in serving.history(USER) or ()}
    assert met
    assert not met & {line.item_id for line in reply.lines}
