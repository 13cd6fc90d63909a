"""A published generation answers, the same from the online store as from the offline one."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedders.items import Modality
from feature_repo.base import StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker import tokens
from ranker.adapter_facts import AdapterError
from ranker.generation import GenerationError, Generations
from ranker.loaded import LoadedGeneration, load
from ranker.model import WEIGHTS
from ranker.ranking import Ranking
from ranker.serving import Serving
from retrieval.base import UnusableIndex
from retrieval.build import IndexConfig, build
from retrieval.candidates import Query
from retrieval.pooled import PoolingConfig
from tests.ranker import model_world
from tests.ranker.shop_world import ANN, CUT, ITEMS, Shop, fill


@pytest.fixture(scope="module")
def online(shop: Shop) -> LoadedGeneration:
    return load(shop.generations, store=shop.store)


@pytest.fixture(scope="module")
def offline(shop: Shop) -> LoadedGeneration:
    return load(shop.generations, store=shop.store, online=False)


def load_plain(shop: Shop) -> LoadedGeneration:
    return load(shop.generations, store=shop.store)


def answer(loaded: LoadedGeneration, query: Query, limit: int = 15) -> Ranking:
    return loaded.rerank(query, loaded.retrieve(query, limit=limit))


INLINE = Query(history=model_world.history("item-02", "item-12", "item-33"), as_of=CUT)


def test_online_and_offline_answer_bit_by_bit_the_same(
    online: LoadedGeneration, offline: LoadedGeneration
) -> None:
    assert online.retrieve(INLINE, limit=15) == offline.retrieve(INLINE, limit=15)
    assert answer(online, INLINE) == answer(offline, INLINE)
    for item_id in (*ITEMS.item_ids, "nowhere"):
        assert online.title(item_id) == offline.title(item_id)


def test_it_serves_what_the_service_asks_for(online: LoadedGeneration) -> None:
    serving: Serving = online
    assert serving.info.generation_id == "g-000001"
    assert serving.info.model == "Qwen2ForCausalLM"
    assert (serving.info.num_items, serving.info.as_of) == (41, CUT)
    assert serving.info.spaces == ITEMS.spaces
    assert serving.info.blocks == ITEMS.names
    assert (serving.info.filterable, serving.info.comparable) == (("kind", "price"), ("price",))
    assert serving.title("item-05") == "a red wine of item-05"
    assert serving.title("nowhere") is None


def test_a_stored_user_is_answered_as_an_inline_history(online: LoadedGeneration) -> None:
    history = online.history("ann")
    assert history is not None
    assert tuple(event.item_id for event in history) == ANN
    assert [event.weight for event in history] == [4.5, None, 4.5, None]
    stored = answer(online, Query(user_id="ann"))
    assert stored == answer(online, Query(history=model_world.history(*ANN)))
    assert not {one.item_id for one in stored.items} & set(ANN)
    assert stored.generation_id == "g-000001"


def test_what_a_generation_holds_itself_does_not_fill_the_readers_cache(shop: Shop) -> None:
    reader = OnlineReader(shop.store)
    loaded = load(shop.generations, store=shop.store, reader=reader)
    assert loaded.reader is reader
    assert reader.num_bytes == 0
    assert loaded.history("ann") is not None
    assert reader.num_bytes > 0


def test_histories_that_were_read_are_kept_and_change_no_answer(shop: Shop) -> None:
    keeping = load(shop.generations, store=shop.store, prefix_cache_bytes=2**20)
    cold = answer(keeping, INLINE)
    assert answer(keeping, INLINE) == cold
    assert keeping.reranker._prefixes.num_hits == 1
    ablated = keeping.without(Modality.TEXT)
    assert len(ablated.reranker._prefixes) == 0, "what another model read is of no use"
    assert answer(ablated, INLINE) == answer(load_plain(shop).without(Modality.TEXT), INLINE)


def test_a_user_that_nobody_knows_has_to_bring_a_history(
    online: LoadedGeneration, offline: LoadedGeneration
) -> None:
    assert online.history("bob") is None
    assert offline.history("ann") is None
    for loaded, user_id in ((online, "bob"), (offline, "ann")):
        for ask in (
            lambda query, loaded=loaded: loaded.retrieve(query, limit=3),
            lambda query, loaded=loaded: loaded.rerank(query, []),
            lambda query, loaded=loaded: loaded.score(query, ["item-01"]),
        ):
            with pytest.raises(ValueError, match=f"user '{user_id}' has no stored history"):
                ask(Query(user_id=user_id))


def test_many_queries_are_answered_as_each_alone(online: LoadedGeneration) -> None:
    queries = [INLINE, Query(user_id="ann"), Query(history=())]
    alone = [online.retrieve(one, limit=9) for one in queries]
    assert online.retrieve_many(queries, limit=9) == alone
    assert [one.item_id for one in alone[2][:2]] == ["item-08", "item-09"]


def test_named_items_are_scored_as_the_retriever_would(online: LoadedGeneration) -> None:
    scored = online.score(INLINE, ["item-02", "nowhere", "item-20"])
    found = {one.item_id: one for one in online.retrieve(INLINE, limit=40)}
    assert {one.item_id for one in scored} == {"item-02", "item-20"}
    assert {one.item_id: one.score for one in scored}["item-20"] == found["item-20"].score


@pytest.mark.parametrize("modality", ITEMS.modalities)
def test_a_modality_that_is_left_out_is_neither_searched_nor_fused(
    modality: Modality, online: LoadedGeneration
) -> None:
    before = answer(online, INLINE)
    ablated = online.without(modality)
    candidates = ablated.retrieve(INLINE, limit=40)
    assert not any(modality in one.evidence for one in candidates)
    ranking = answer(ablated, INLINE)
    assert not any(modality in one.present for one in ranking.items)
    assert {one.item_id: one.logit for one in ranking.items} != {
        one.item_id: one.logit for one in before.items
    }
    assert answer(online, INLINE) == before, "the whole generation stays as it was"


def test_what_was_left_out_stays_out_whatever_is_asked(online: LoadedGeneration) -> None:
    ablated = online.without(Modality.TEXT).without(Modality.AUDIO)
    for asked in (None, frozenset(ITEMS.modalities), frozenset({Modality.GRAPH})):
        candidates = ablated.retrieve(replace(INLINE, modalities=asked), limit=40)
        assert {modality for one in candidates for modality in one.evidence} == {Modality.GRAPH}
    nothing = ablated.retrieve(replace(INLINE, modalities=frozenset({Modality.TEXT})), limit=2)
    assert [one.item_id for one in nothing] == ["item-08", "item-09"], "the most popular ones"
    assert not any(Modality.AUDIO in one.present for one in answer(ablated, INLINE).items)


def test_a_modality_that_is_not_there_cannot_be_left_out(online: LoadedGeneration) -> None:
    with pytest.raises(ValueError, match="no block 'image'"):
        online.without(Modality.IMAGE)


def test_an_item_without_vectors_is_scored_like_any_other(online: LoadedGeneration) -> None:
    ranking = online.rerank(INLINE, online.score(INLINE, [model_world.BARE, "item-20"]))
    assert {one.item_id: one.status.value for one in ranking.items} == {
        model_world.BARE: "missing_vectors",
        "item-20": "ok",
    }


@pytest.mark.parametrize("online", [True, False])
def test_items_without_tokens_are_an_error_that_says_what_to_run(
    online: bool, adapter: Path, shop: Shop, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    fill(store, adapter, rows=slice(2, None))
    with pytest.raises(StoreError, match=r"2 items have no fused tokens.*item-00.*sommelier index"):
        load(shop.generations, store=store, online=online)


@pytest.fixture
def copied(shop: Shop, tmp_path: Path) -> Generations:
    """A copy to damage."""
    shutil.copytree(shop.generations.root, tmp_path / "generations")
    return Generations(tmp_path / "generations")


def test_a_file_that_changed_is_refused_before_anything_is_loaded(
    copied: Generations, shop: Shop
) -> None:
    path = copied.current().adapter / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(GenerationError, match=rf"{WEIGHTS} is not what was published"):
        load(copied, store=shop.store)


def test_tokens_of_another_adapter_are_refused(copied: Generations, shop: Shop) -> None:
    (copied.current().adapter / "note.txt").write_text("an adapter is all of its files")
    with pytest.raises(GenerationError, match="tokens were made by another adapter"):
        load(copied, store=shop.store)


def test_an_index_of_other_spaces_is_refused(
    copied: Generations, shop: Shop, adapter: Path, llm_folder: Path
) -> None:
    text = ITEMS.space(Modality.TEXT)
    copied.publish(
        index=copied.current().index,
        adapter=adapter,
        llm=str(llm_folder),
        spaces=(*ITEMS.spaces[:2], replace(text, revision="2")),
        fused_space=tokens.fused_space(adapter),
        as_of=CUT,
    )
    with pytest.raises(UnusableIndex, match="are asked for"):
        load(copied, store=shop.store)
    assert load(copied, store=shop.store, generation_id="g-000001").generation.files


def test_an_adapter_of_other_spaces_is_refused(
    shop: Shop, adapter: Path, llm_folder: Path, tmp_path: Path
) -> None:
    newer = replace(ITEMS.space(Modality.TEXT), revision="2")
    spaces = (*ITEMS.spaces[:2], newer)
    build(
        replace(ITEMS, spaces=spaces),
        folder=tmp_path / "index",
        config=IndexConfig(num_probes=1),
        pooling=PoolingConfig(),
        popularity=[],
        as_of=CUT,
    )
    generations = Generations(tmp_path / "generations")
    generations.publish(
        index=tmp_path / "index",
        adapter=adapter,
        llm=str(llm_folder),
        spaces=spaces,
        fused_space=tokens.fused_space(adapter),
        as_of=CUT,
    )
    with pytest.raises(AdapterError, match="the adapter was trained on"):
        load(generations, store=shop.store)


def test_tokens_are_read_in_the_items_order(online: LoadedGeneration, adapter: Path) -> None:
    fused = tokens.fuse(adapter, ITEMS).vectors_ND
    held = online.reranker._tokens_RH.numpy().reshape(len(ITEMS), -1)
    np.testing.assert_array_equal(held, fused)
