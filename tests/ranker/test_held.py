"""A generation whose prompts hold summaries and preferences reads them, or says why it cannot."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.items import EPOCH
from embedders.texts import TextKind, TextSource
from feature_repo import outage, repo_config
from feature_repo.base import StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker.adapter_facts import AdapterError
from ranker.generation import MANIFEST, GenerationError, Generations
from ranker.loaded import LoadedGeneration, load
from ranker.probes import PREFERENCE as PROBED
from ranker.probes import load as load_probes
from ranker.prompts import CHARACTERS, frame
from ranker.ranking import Ranking
from ranker.training import train
from retrieval.candidates import Query
from tests.feature_repo.servers import RedisServer
from tests.feature_repo.texts import write_texts
from tests.ranker import model_world
from tests.ranker.shop_world import ANN, ITEMS, fill, publish

SUMMARY = TextSource(kind=TextKind.SUMMARY, writer="template", revision="1", prompt="s")
PREFERENCE = TextSource(kind=TextKind.PREFERENCE, writer="template", revision="1", prompt="p")
TEXTS = (SUMMARY, PREFERENCE)
LIKES = "red wine, never old cheese"
SUMMARIES = {item_id: f"blue songs {item_id[::-1]} " + "night " * 40 for item_id in ITEMS.item_ids}
PROMPT = replace(
    model_world.CONFIG.prompt, candidates="both", summary_tokens=4, preference_tokens=5
)
CONFIG = replace(model_world.CONFIG, prompt=PROMPT)
INLINE = Query(history=model_world.history(*ANN))


@dataclass(frozen=True, kw_only=True)
class Told:
    """A shop whose prompts hold texts."""

    store: Store
    generations: Generations
    adapter: Path


def told_adapter(folder: Path, llm: Path, *, texts: tuple[TextSource, ...] = TEXTS) -> Path:
    examples = [
        replace(one, query=replace(one.query, preference=LIKES if n % 2 else ""))
        for n, one in enumerate(model_world.examples(8))
    ]
    return train(
        examples,
        items=model_world.items(),
        titles=model_world.TITLES,
        summaries=SUMMARIES,
        texts=texts,
        llm=str(llm),
        config=CONFIG,
        folder=folder,
    )


def write(store: Store) -> None:
    write_texts(store, SUMMARY, SUMMARIES)
    write_texts(store, PREFERENCE, {"ann": LIKES})


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded LLM that has the phrase before a preference as one token."""
    return model_world.make_llm(tmp_path_factory.mktemp("llm"), phrases=frame(PROMPT))


@pytest.fixture(scope="module")
def told(llm: Path, tmp_path_factory: pytest.TempPathFactory, imported_feast: None) -> Told:
    root = tmp_path_factory.mktemp("told")
    store, adapter = Store(root / "store"), told_adapter(root / "adapters", llm)
    write(store)
    fill(store, adapter)
    generations = publish(root, adapter, llm, store=store, texts=TEXTS)
    return Told(store=store, generations=generations, adapter=adapter)


@pytest.fixture(scope="module")
def online(told: Told) -> LoadedGeneration:
    return load(told.generations, store=told.store)


@pytest.fixture(scope="module")
def offline(told: Told) -> LoadedGeneration:
    return load(told.generations, store=told.store, online=False)


def answer(loaded: LoadedGeneration, query: Query, limit: int = 15) -> Ranking:
    return loaded.rerank(query, loaded.retrieve(query, limit=limit))


def scores(ranking: Ranking) -> dict[str, float]:
    return {one.item_id: one.score for one in ranking.items}


def test_a_generation_names_whose_texts_it_reads(online: LoadedGeneration) -> None:
    assert online.generation.texts == online.model.texts == online.info.texts == TEXTS
    assert online.generation.stored == (*ITEMS.spaces, online.generation.fused_space, *TEXTS)


def test_summaries_are_read_online_as_offline_and_say_something(
    online: LoadedGeneration, offline: LoadedGeneration
) -> None:
    assert online.summaries == offline.summaries
    assert answer(online, INLINE) == answer(offline, INLINE)
    silent = replace(online, summaries={})._reranked_with(online.tokens_ND)
    assert scores(answer(silent, INLINE)) != scores(answer(online, INLINE))


def test_no_more_of_a_summary_is_held_than_prompts_write(online: LoadedGeneration) -> None:
    for item_id, held in online.summaries.items():
        assert held == SUMMARIES[item_id][: CHARACTERS * PROMPT.summary_tokens]
        assert len(held) < len(SUMMARIES[item_id])


def test_a_stored_users_preference_is_looked_up(online: LoadedGeneration) -> None:
    assert online.preference("ann") == LIKES
    stored = answer(online, Query(user_id="ann"))
    assert stored == answer(online, replace(INLINE, preference=LIKES))
    assert scores(stored) != scores(answer(online, INLINE))


def test_whose_history_was_looked_up_before_is_a_stored_user_all_the_same(
    online: LoadedGeneration,
) -> None:
    """The service reads histories itself."""
    known = Query(user_id="ann", history=online.history("ann"))
    assert answer(online, known) == answer(online, Query(user_id="ann"))


@pytest.mark.parametrize(
    "query",
    [
        INLINE,
        replace(INLINE, preference=""),
        replace(INLINE, user_id="nobody"),
        replace(INLINE, user_id="ann", preference=""),
    ],
)
def test_of_whom_nothing_is_written_or_to_be_read_nothing_is_said(
    query: Query, online: LoadedGeneration, offline: LoadedGeneration
) -> None:
    expected = scores(answer(offline, replace(INLINE, preference="")))
    assert scores(answer(online, query)) == expected


def test_what_is_written_now_is_not_read_as_of_earlier(online: LoadedGeneration) -> None:
    earlier = replace(INLINE, user_id="ann", as_of=model_world.NOON.replace(year=2030))
    assert scores(answer(online, earlier)) == scores(answer(online, INLINE))
    brought = replace(earlier, preference=LIKES)
    assert scores(answer(online, brought)) == scores(answer(online, Query(user_id="ann")))


def test_offline_a_query_brings_its_preference(offline: LoadedGeneration) -> None:
    brought = replace(INLINE, user_id="ann", preference=LIKES)
    assert scores(answer(offline, brought)) != scores(answer(offline, INLINE))
    assert scores(answer(offline, replace(INLINE, user_id="ann"))) == scores(
        answer(offline, INLINE)
    )


def test_what_was_left_out_or_swapped_still_reads_summaries(
    online: LoadedGeneration, told: Told
) -> None:
    same = online.with_adapter(told.adapter)
    assert scores(answer(same, INLINE)) == pytest.approx(scores(answer(online, INLINE)), abs=1e-5)
    assert online.without("audio").summaries == online.summaries


def test_an_adapter_that_was_trained_with_other_texts_is_refused(
    online: LoadedGeneration, llm: Path, tmp_path: Path
) -> None:
    other = told_adapter(tmp_path, llm, texts=(SUMMARY,))
    with pytest.raises(AdapterError, match="trained with other texts: run `sommelier train`"):
        online.with_adapter(other)


@pytest.mark.parametrize("is_online", [True, False])
def test_a_store_without_a_sources_texts_is_refused_by_name(
    is_online: bool, told: Told, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    write_texts(store, SUMMARY, SUMMARIES)
    fill(store, told.adapter)
    expected = (
        f"reads? texts of {PREFERENCE.source_id}, of which the store holds none .it holds "
        rf"{SUMMARY.source_id}.: run `sommelier summarize`"
    )
    with pytest.raises(StoreError, match=expected):
        load(told.generations, store=store, online=is_online)


def test_an_item_without_a_summary_is_written_without_one(told: Told, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = {item_id: text for item_id, text in SUMMARIES.items() if item_id != "item-20"}
    write_texts(store, SUMMARY, kept)
    write_texts(store, PREFERENCE, {"bob": LIKES})
    fill(store, told.adapter)
    loaded = load(told.generations, store=store, online=False)
    assert loaded.summaries.keys() == kept.keys()
    assert loaded.rerank(INLINE, loaded.score(INLINE, ["item-20"])).items[0].item_id == "item-20"


def test_a_manifest_that_names_other_texts_than_the_adapter_is_refused(
    told: Told, tmp_path: Path
) -> None:
    shutil.copytree(told.generations.root, tmp_path / "generations")
    copied = Generations(tmp_path / "generations")
    path = copied.current().folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "texts": []}))
    assert copied.current().texts == ()
    with pytest.raises(GenerationError, match="other texts than its adapter was trained with"):
        load(copied, store=told.store)


def test_probes_ask_with_a_preference_and_pass_over_what_was_told_anew(
    told: Told, online: LoadedGeneration, tmp_path: Path
) -> None:
    path = online.generation.probes
    assert path is not None
    asked = load_probes(path)
    assert [one.preference for one in asked.probes] == ["", PROBED, PROBED]
    store = Store(tmp_path / "store")
    write_texts(store, SUMMARY, {item_id: "another song" for item_id in SUMMARIES})
    write_texts(store, PREFERENCE, {"ann": LIKES})
    fill(store, told.adapter)
    renewed = load(told.generations, store=store, online=False)
    assert all(renewed.state_of(item_id) != online.state_of(item_id) for item_id in ITEMS.item_ids)


def test_an_item_that_no_summary_is_read_of_has_the_state_that_it_always_had(
    online: LoadedGeneration,
) -> None:
    plain = replace(online, summaries={})
    row = online.items.row_of["item-05"]
    expected = online.tokens_ND[row].tobytes() + b"a red wine of item-05"
    assert plain.state_of("item-05") == expected


@pytest.fixture
def on_redis(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: Told
) -> Iterator[Store]:
    """The same rows in a Redis that can be stopped."""
    profile = tmp_path / "feature_store.yaml"
    sqlite = "type: sqlite\n  path: data/online.db"
    redis_there = "type: redis\n  connection_string: ${REDIS}"
    profile.write_text(repo_config.EMBEDDED.read_text().replace(sqlite, redis_there))
    monkeypatch.setenv("REDIS", redis.environment["REDIS"])
    monkeypatch.setattr(outage, "ASK_AGAIN_S", 0.05)
    with redis.client() as client:
        client.flushall()
    store = Store(tmp_path / "store", profile=profile)
    write(store)
    fill(store, told.adapter)
    store.materialize(max(EPOCH, datetime.now(UTC)))
    yield store
    if not redis.is_running:
        redis.start()
    store.close()


def test_while_the_store_is_down_a_preference_is_what_is_held_or_none_and_it_is_told(
    on_redis: Store, redis: RedisServer, told: Told
) -> None:
    reader = OnlineReader(on_redis, history_age_s=0, stale_history_s=3600)
    loaded = load(told.generations, store=on_redis, reader=reader)
    fresh = answer(loaded, Query(user_id="ann"))
    assert not loaded.is_degraded
    redis.stop()
    assert loaded.preference("ann") == LIKES, "as a history, it may be an hour old"
    assert loaded.preference("bob") == "", "of whom nothing is held"
    assert loaded.is_degraded
    assert answer(loaded, Query(user_id="ann")) == fresh
