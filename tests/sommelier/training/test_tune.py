"""Weights and the fusion are fitted on moments between the graph's end and the cut."""

from pathlib import Path

from retrieval.learned_fusion import Learned
from retrieval.rank_fusion import ByRank
from sommelier.settings_file import load
from sommelier.training.train import training_key
from sommelier.training.tune import moments, tune, tune_fusion, tuned, tuned_fusion
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace


def test_moments_lie_between_the_graphs_end_and_the_cut(built: Path) -> None:
    workspace = Workspace(load(built))
    line = workspace.timeline
    queries, chosen = moments(workspace)
    assert len(queries) == len(chosen) > 10
    for query, items in zip(queries, chosen, strict=True):
        assert query.as_of is not None
        assert line.graph_until <= query.as_of < line.cut
        assert items
        born = (workspace.created_at.get(one) for one in query.exclude)
        assert all(moment is None or moment > query.as_of for moment in born)


def test_what_was_fitted_is_found_again(built: Path) -> None:
    workspace = Workspace(load(built))
    assert tune(workspace, watch=Unwatched()) == tuned(workspace)
    assert tuned_fusion(workspace) is None, "the weighted sum needs none"


def test_a_fusion_by_rank_needs_no_fitting(built: Path) -> None:
    workspace = Workspace(load(built, overrides=["retrieval.fusion=rank"]))
    assert tune_fusion(workspace, tuned(workspace), watch=Unwatched()) == ByRank()


def test_a_learned_fusion_is_fitted_once_and_is_another_training(copy_of_built: Path) -> None:
    learned = ["retrieval.fusion=learned"]
    workspace = Workspace(load(copy_of_built, overrides=learned))
    fusion = tune_fusion(workspace, tuned(workspace), watch=Unwatched())
    assert isinstance(fusion, Learned)
    assert fusion.blocks == workspace.item_vectors.names
    path = workspace.settings.paths.models / "fusion.json"
    before = path.stat().st_mtime_ns
    again = Workspace(load(copy_of_built, overrides=learned))
    assert tune_fusion(again, tuned(again), watch=Unwatched()) == fusion
    assert path.stat().st_mtime_ns == before
    assert training_key(again) != training_key(Workspace(load(copy_of_built)))
    retriever = again.retriever(tuned(again), until=again.timeline.graph_until, fusion=fusion)
    found = retriever.retrieve(moments(again)[0][0], limit=10)
    assert len(found) == 10
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
