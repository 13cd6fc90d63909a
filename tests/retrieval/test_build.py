"""A folder is written whole, verified when read, and answers as the parts it was made of."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, normalize
from retrieval.base import UnusableIndex
from retrieval.build import INDEX, IndexConfig, Retrieval, build, load
from retrieval.candidates import Query
from retrieval.concatenated import concatenate
from retrieval.manifest import NAME, Manifest
from retrieval.pooled import PooledHistory, PoolingConfig
from retrieval.probes import probes
from retrieval.registry import KINDS
from tests.retrieval.small_world import GRAPH, POPULARITY, TEXT, TEXTS, USERS, history, items
from tests.retrieval.small_world import retriever as live_retriever

CUT = datetime(2024, 6, 1, tzinfo=UTC)
POOLING = PoolingConfig(half_life=7, weights={Modality.TEXT: 0.5}, behavior_weights={"buy": 2.0})


def encoder() -> PooledHistory:
    return PooledHistory(items(), config=POOLING, user_vectors=USERS)


def built(folder: Path, kind: str = "flat", as_of: datetime | None = CUT) -> Manifest:
    return build(
        items(),
        folder=folder,
        config=IndexConfig(kind=kind, num_probes=8),
        pooling=POOLING,
        popularity=POPULARITY,
        user_vectors=USERS,
        as_of=as_of,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_folder_answers_as_the_parts_it_was_made_of(tmp_path: Path, kind: str) -> None:
    built(tmp_path / "index", kind)
    loaded = load(tmp_path / "index", expected_spaces=[TEXT, GRAPH]).retriever()
    live = live_retriever(POOLING)
    for query in (
        Query(history=history("sweet-0", "sour-1")),
        Query(user_id="sweet-user", history=history("sour-1")),
        Query(history=()),
    ):
        assert loaded.retrieve(query, limit=9) == live.retrieve(query, limit=9)


def test_the_manifest_says_what_was_built_and_is_read_back_equal(tmp_path: Path) -> None:
    manifest = built(tmp_path / "index")
    assert manifest.spaces == (GRAPH, TEXT)
    assert (manifest.num_items, manifest.num_indexed, manifest.num_users) == (15, 14, 2)
    assert (manifest.dim, manifest.as_of, manifest.pooling) == (10, CUT, POOLING)
    assert manifest.recall_against_exact == 1.0
    assert set(manifest.files) == {
        path.name for path in (tmp_path / "index").iterdir() if path.name != NAME
    }
    assert load(tmp_path / "index").manifest == manifest
    facts = json.loads((tmp_path / "index" / NAME).read_text())
    assert [one["space_id"] for one in facts["spaces"]] == [GRAPH.space_id, TEXT.space_id]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_parts_make_equal_folders_but_for_measured_times(tmp_path: Path, kind: str) -> None:
    one, two = built(tmp_path / "one", kind), built(tmp_path / "two", kind)
    assert dataclasses.replace(one, curve=two.curve) == two
    assert [(point.effort, point.recall) for point in one.curve] == [
        (point.effort, point.recall) for point in two.curve
    ]


def test_the_least_effort_that_reaches_the_target_is_served_with(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = normalize(random.normal(size=(4000, 6)))
    ids = [f"{row:04}" for row in range(4000)]
    large = concatenate([Embeddings(space=TEXT, item_ids=ids, vectors_ND=vectors)])
    for kind in ("ivf", "ivfpq", "hnsw"):
        manifest = build(
            large,
            folder=tmp_path / kind,
            config=IndexConfig(kind=kind, target_recall=0.9, num_probes=16, probe_length=1),
            pooling=PoolingConfig(),
            popularity=[],
        )
        reaching = [point for point in manifest.curve if point.recall >= 0.9]
        assert manifest.effort == min(point.effort for point in reaching)
        assert manifest.recall_against_exact == reaching[0].recall
        assert manifest.warning is None
        assert len(reaching) <= 2  # one step beyond tells what more effort would bring
        assert load(tmp_path / kind).index.effort == manifest.effort


def test_the_kind_is_chosen_and_its_reasons_are_told(tmp_path: Path) -> None:
    manifest = built(tmp_path / "index", "auto")
    assert manifest.kind == "flat"
    assert "comparing with all 14 is fast" in manifest.reasons[0]
    assert built(tmp_path / "index", "ivf").reasons == ("the settings name it.",)


def test_held_out_queries_are_measured_on_where_there_are_any(tmp_path: Path) -> None:
    queries = [Query(history=history("sweet-0")), Query(history=()), Query(history=history("?"))]
    given = probes(items(), encoder(), queries=queries, limit=8, length=2, seed=0)
    assert len(given) == 1
    simulated = probes(items(), encoder(), queries=queries[1:], limit=8, length=2, seed=0)
    assert len(simulated) == 8
    manifest = build(
        items(),
        folder=tmp_path / "index",
        config=IndexConfig(kind="hnsw"),
        pooling=POOLING,
        popularity=POPULARITY,
        user_vectors=USERS,
        queries=queries,
    )
    assert manifest.recall_against_exact == 1.0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "annoy"}, "no index of kind 'annoy'; choose one of auto, exact"),
        ({"target_recall": 1.1}, r"target_recall lies in \(0, 1\], got 1.1"),
        ({"num_probes": 0}, "num_probes and probe_length must be at least 1"),
    ],
)
def test_a_config_that_cannot_be_met_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        IndexConfig(**wrong)


def test_a_folder_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    built(tmp_path / "index")
    built(tmp_path / "index", as_of=None)
    assert load(tmp_path / "index").manifest.as_of is None
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_build_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    manifest = built(tmp_path / "index")
    empty = concatenate([TEXTS], item_ids=["bare"])
    with pytest.raises(ValueError, match="no item has a vector in any space"):
        build(
            empty,
            folder=tmp_path / "index",
            config=IndexConfig(),
            pooling=POOLING,
            popularity=[],
        )
    assert load(tmp_path / "index").manifest == manifest


def test_a_folder_without_users_is_complete_too(tmp_path: Path) -> None:
    build(
        concatenate([TEXTS]),
        folder=tmp_path / "index",
        config=IndexConfig(),
        pooling=PoolingConfig(),
        popularity=[],
    )
    loaded = load(tmp_path / "index")
    assert loaded.user_vectors is None
    assert not (tmp_path / "index" / "users.safetensors").exists()
    assert loaded.retriever().retrieve(Query(history=history("sour-0")), limit=3)


def test_other_weights_need_no_rebuild(tmp_path: Path) -> None:
    built(tmp_path / "index")
    loaded: Retrieval = load(tmp_path / "index")
    pooling = dataclasses.replace(POOLING, weights={Modality.GRAPH: 0.0})
    found = loaded.retriever(pooling).retrieve(Query(history=history("sour-0")), limit=1)
    assert found[0].score == pytest.approx(found[0].evidence[Modality.TEXT])


def test_what_is_loaded_is_what_was_built(tmp_path: Path) -> None:
    built(tmp_path / "index")
    loaded = load(tmp_path / "index")
    np.testing.assert_array_equal(loaded.item_vectors.vectors_ND, items().vectors_ND)
    np.testing.assert_array_equal(loaded.item_vectors.centers_D, items().centers_D)
    assert loaded.popularity == POPULARITY


def test_an_index_of_other_spaces_is_refused(tmp_path: Path) -> None:
    built(tmp_path / "index")
    other = dataclasses.replace(TEXT, revision="2")
    with pytest.raises(UnusableIndex, match=f"{other.space_id}.*run `sommelier index`"):
        load(tmp_path / "index", expected_spaces=[GRAPH, other])
    with pytest.raises(UnusableIndex, match="are asked for"):
        load(tmp_path / "index", expected_spaces=[GRAPH])


def test_a_missing_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UnusableIndex, match=r"no index in .*run `sommelier index`"):
        load(tmp_path / "index")


@pytest.mark.parametrize(
    "name", [INDEX, "vectors.safetensors", "users.safetensors", "popularity.json"]
)
def test_a_missing_or_changed_file_is_named(tmp_path: Path, name: str) -> None:
    built(tmp_path / "index")
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnusableIndex, match=rf"{name} is damaged .*run `sommelier index`"):
        load(tmp_path / "index")
    path.unlink()
    with pytest.raises(UnusableIndex, match=rf"{name} is missing: run `sommelier index`"):
        load(tmp_path / "index")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[]", "is not of format 1"),
        ('{"format": 2}', "is not of format 1"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str, words: str) -> None:
    built(tmp_path / "index")
    (tmp_path / "index" / NAME).write_text(content)
    with pytest.raises(UnusableIndex, match=f"{words}.*run `sommelier index`"):
        load(tmp_path / "index")


def test_facts_of_a_space_that_were_edited_are_refused(tmp_path: Path) -> None:
    built(tmp_path / "index")
    path = tmp_path / "index" / NAME
    path.write_text(path.read_text().replace('"encoder": "words"', '"encoder": "other"'))
    with pytest.raises(UnusableIndex, match="hash to"):
        load(tmp_path / "index")
