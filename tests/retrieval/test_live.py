"""An index that changes answers as one that is built of all items, at every moment."""

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedders.items import Item
from embedders.vectors import Space
from retrieval.attributes import Attributes
from retrieval.base import UnusableIndex
from retrieval.build import IndexConfig, build, load
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors
from retrieval.filters import Filter
from retrieval.layers import Main
from retrieval.live import LiveRetriever, main_of
from retrieval.rank_fusion import ByRank
from tests.retrieval.live_world import (
    GRAPH,
    IDS,
    POOLING,
    POPULARITY,
    TEXT,
    USERS,
    described,
    first,
    main,
    queries,
    rebuilt,
    vectors,
)
from tests.retrieval.small_world import history
from tests.retrieval.test_sequence import TEXT as WORDS
from tests.retrieval.test_sequence import content, items, trained, walk

NEW = [f"new-{row}" for row in range(20)]


@pytest.fixture
def live() -> Iterator[LiveRetriever]:
    """With twenty new items, ten changed ones and fifteen that are gone, two of them new."""
    live = LiveRetriever(first())
    change(live)
    yield live
    live.close()


def change(live: LiveRetriever) -> None:
    live.upsert(
        embeddings=[vectors(TEXT, NEW, seed=1), vectors(GRAPH, NEW[:15], seed=1)],
        items=described(NEW, color="red"),
    )
    live.upsert(embeddings=[vectors(TEXT, IDS[40:50], seed=2)])
    live.delete([*IDS[100:113], NEW[3], NEW[17], "unheard"])
    live.upsert(items=[Item(item_id="bare", title="bare"), *described(IDS[60:62], price="9")])


def same(live: LiveRetriever) -> None:
    """Candidates, scores, evidence, ranks and popularity are those of an index of all items."""
    layers = live._state.layers
    whole = rebuilt(layers.item_vectors, layers.attributes)
    asked = queries([*layers.item_ids, *IDS[100:113]])
    for limit in (1, 30, 400):
        assert live.retrieve_many(asked, limit=limit) == whole.retrieve_many(asked, limit=limit)
    assert live.retrieve_ids(asked, limit=9) == whole.retrieve_ids(asked, limit=9)
    named = [*NEW, *IDS[35:110], "bare", "unheard"]
    for query in asked[:9]:
        assert live.score(query, named) == whole.score(query, named)
    assert live.exact_ranks(asked, [named] * 40) == whole.exact_ranks(asked, [named] * 40)


def test_answers_are_those_of_an_index_of_all_items(live: LiveRetriever) -> None:
    same(live)
    found = live.retrieve(Query(history=history(NEW[0]), exclude_seen=False), limit=400)
    seen = {one.item_id for one in found}
    assert NEW[0] == found[0].item_id
    assert seen == {*IDS, *NEW} - {*IDS[100:113], NEW[3], NEW[17]}
    assert len(found) == len(seen)


def test_filters_hold_in_both_layers(live: LiveRetriever) -> None:
    layers = live._state.layers
    whole = rebuilt(layers.item_vectors, layers.attributes)
    for conditions in (["category=A|C"], ["price>=5"], ["color=red"], ["color=red", "price>=5"]):
        filters = Filter.parse(conditions, deny=[NEW[1], IDS[7]])
        asked = [replace(query, filters=filters) for query in queries(IDS, 8)]
        found = live.retrieve_many(asked, limit=25)
        assert found == whole.retrieve_many(asked, limit=25)
    assert not any(found)
    with pytest.raises(ValueError, match="there are: category, color, price"):
        live.retrieve(replace(asked[1], filters=Filter.parse(["size=3"])), limit=1)
    with pytest.raises(ValueError, match="there are: category, color, price"):
        live.retrieve(Query(history=(), filters=Filter.parse(["size=3"])), limit=1)


def test_what_is_not_given_of_an_item_stays(live: LiveRetriever) -> None:
    layers = live._state.layers
    row = layers.item_vectors.row_of[IDS[45]]
    before = first().item_vectors
    graph = layers.item_vectors.block("graph")[row]
    assert np.array_equal(graph, before.block("graph")[before.row_of[IDS[45]]])
    text = before.place(vectors(TEXT, IDS[40:50], seed=2))[5]
    np.testing.assert_allclose(layers.item_vectors.block("text")[row], text, atol=1e-6)
    assert layers.attributes.of_item(IDS[45])["price"] == "3"
    assert layers.attributes.of_item(IDS[61])["price"] == "9"


def test_an_item_that_comes_back_brings_nothing_from_before(live: LiveRetriever) -> None:
    live.upsert(embeddings=[vectors(TEXT, IDS[100:101], seed=5)])
    items = live._state.layers.item_vectors
    assert items.is_present_NM[items.row_of[IDS[100]]].tolist() == [False, True]
    assert live._state.layers.attributes.of_item(IDS[100]) == {}
    same(live)


def test_everything_deleted_leaves_nothing_and_the_first_new_item_is_found() -> None:
    live = LiveRetriever(first())
    live.delete(IDS)
    for query in queries(IDS, 9):
        assert live.retrieve(query, limit=5) == []
    live.upsert(embeddings=[vectors(TEXT, NEW)])
    found = live.retrieve(Query(history=history(NEW[4])), limit=400)
    assert {one.item_id for one in found} == set(NEW) - {NEW[4]}


def test_a_foreign_space_is_refused_and_nothing_changes(live: LiveRetriever) -> None:
    before = live._state
    other = Space(modality=TEXT.modality, encoder="words", revision="2", dim=TEXT.dim)
    with pytest.raises(ValueError, match="do not meet"):
        live.upsert(embeddings=[vectors(GRAPH, NEW), vectors(other, NEW)])
    with pytest.raises(ValueError, match="one space for each block"):
        live.upsert(embeddings=[vectors(TEXT, NEW[:1]), vectors(TEXT, NEW[1:])])
    assert live._state is before


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    change(live)
    asked = queries([*IDS, *NEW])
    answers = live.retrieve_many(asked, limit=50)
    live.close()
    for _ in range(2):
        again = LiveRetriever(first(), journal=tmp_path / "journal")
        assert again.retrieve_many(asked, limit=50) == answers
        again.close()


def test_a_torn_last_change_is_dropped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    live.delete(IDS[:3])
    live.delete(IDS[3:6])
    live.close()
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content[:-4])
    with caplog.at_level(logging.WARNING):
        again = LiveRetriever(first(), journal=tmp_path / "journal")
    assert "is dropped" in caplog.text
    assert again._state.layers.removed == frozenset(IDS[:3])
    again.close()


def test_a_rebuild_keeps_what_came_meanwhile(tmp_path: Path) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    change(live)
    live.begin_rebuild()
    layers = live._state.layers
    built = main(layers.item_vectors, layers.attributes, digest="1")
    live.delete([NEW[0]])
    live.upsert(embeddings=[vectors(TEXT, ["late"], seed=4)], items=described(["late"]))
    assert live.num_changed == 44
    live.swap(built)
    assert live.num_changed == 2
    same(live)
    answers = live.retrieve_many(queries(IDS), limit=50)
    live.close()
    again = LiveRetriever(built, journal=tmp_path / "journal")
    assert again.num_changed == 2
    assert again.retrieve_many(queries(IDS), limit=50) == answers
    again.close()


def test_a_process_that_stops_between_build_and_swap_loses_nothing(tmp_path: Path) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    live.delete(IDS[:5])
    live.begin_rebuild()
    layers = live._state.layers
    built = main(layers.item_vectors, layers.attributes, digest="1")
    live.delete(IDS[5:7])
    live.close()  # the new index is in its place, and nobody swapped
    again = LiveRetriever(built, journal=tmp_path / "journal")
    assert again._state.layers.removed == frozenset(IDS[5:7])
    again.close()
    old = LiveRetriever(first(digest="1"), journal=tmp_path / "journal")
    assert old._state.layers.removed == frozenset(IDS[5:7])
    old.close()


def test_after_a_rebuild_that_failed_all_changes_count(tmp_path: Path) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    live.delete(IDS[:5])

    def fail(*_: object) -> None:
        live.delete(IDS[5:7])
        raise MemoryError

    with pytest.raises(MemoryError):
        live.rebuild(fail)  # type: ignore[arg-type]
    assert live._state.layers.removed == frozenset(IDS[:7])
    live.close()
    again = LiveRetriever(first(digest="another"), journal=tmp_path / "journal")
    assert again._state.layers.removed == frozenset(IDS[:7])
    again.close()


def test_a_swap_that_would_lose_changes_is_refused(live: LiveRetriever) -> None:
    with pytest.raises(ValueError, match="changes since its start would be lost"):
        live.swap(first())
    live.begin_rebuild()
    with pytest.raises(ValueError, match="a rebuild is running"):
        live.begin_rebuild()
    live.upsert(embeddings=[vectors(GRAPH, ["late"])])
    only_text = first().item_vectors.only(["text"])
    before = live._state
    other = replace(first(), item_vectors=only_text)
    with pytest.raises(ValueError, match="do not meet"):
        live.swap(other)
    assert live._state is before


def test_a_journal_of_other_spaces_says_what_to_do(tmp_path: Path) -> None:
    live = LiveRetriever(first(), journal=tmp_path / "journal")
    live.upsert(embeddings=[vectors(GRAPH, ["late"])])
    live.close()
    other = replace(first(), item_vectors=first().item_vectors.only(["text"]))
    with pytest.raises(UnusableIndex, match=r"do not fit .* then move the journal away"):
        LiveRetriever(other, journal=tmp_path / "journal")
    LiveRetriever(first(), journal=tmp_path / "journal").close()


def test_a_folder_is_changed_built_again_and_swapped(tmp_path: Path) -> None:
    def built(some: ItemVectors, facts: Attributes) -> Main:
        build(
            some,
            folder=tmp_path / "index",
            config=IndexConfig(num_probes=2),
            pooling=POOLING,
            popularity=POPULARITY,
            user_vectors=USERS,
            attributes=facts,
        )
        return main_of(load(tmp_path / "index"))

    start = first()
    live = LiveRetriever(
        built(start.item_vectors, start.attributes), journal=tmp_path / "index.journal"
    )
    change(live)
    same(live)
    answers = live.retrieve_many(queries(IDS), limit=50)
    live.rebuild(built)
    assert live.num_changed == 0
    assert live.retrieve_many(queries(IDS), limit=50) == answers
    live.delete(NEW[:1])
    live.close()
    again = LiveRetriever(main_of(load(tmp_path / "index")), journal=tmp_path / "index.journal")
    assert again.num_changed == 1
    again.close()
    with pytest.raises(ValueError, match="takes no changes"):
        main_of(replace(load(tmp_path / "index"), fusion=ByRank()))


def test_the_network_makes_its_block_for_items_that_come_and_change() -> None:
    network, some = trained(), items()
    start = main(
        some.joined(network.items(some)),
        Attributes(some.item_ids, {}),
        network=network,
        users=None,
    )
    live = LiveRetriever(start)
    new = ["item-03-new", "item-05-new"]
    live.upsert(embeddings=[content(WORDS, [*new, "item-20"])])
    live.delete(["item-07"])
    layers = live._state.layers
    anew = layers.item_vectors.content
    whole = main(anew.joined(network.items(anew)), layers.attributes, network=network, users=None)
    asked = [walk(1, 2, 3), walk(6, 7), Query(history=history(new[0], "item-04"))]
    expected = whole.retriever.retrieve_many(asked, limit=40)
    for some_found, best in zip(live.retrieve_many(asked, limit=40), expected, strict=True):
        assert [one.item_id for one in some_found] == [one.item_id for one in best]
        # A product of matrices rounds otherwise for few rows than for many.
        np.testing.assert_allclose(
            [one.score for one in some_found], [one.score for one in best], atol=1e-5
        )
    with pytest.raises(ValueError, match="is made from the others"):
        live.upsert(embeddings=[network.items(anew)])
    live.delete(layers.item_ids)
    assert live.retrieve_many(asked, limit=3) == [[], [], []]


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_whoever_reads_sees_one_whole_state_while_items_change_and_indexes_swap(kind: str) -> None:
    """Writers change items in rounds; readers check each answer against what must hold of it."""
    live = LiveRetriever(first(kind=kind))
    stay = IDS[150:]
    come_and_go = IDS[:40]
    gone: set[tuple[str, int]] = set()  # deleted in that round, and not upserted again since
    lock, stop = threading.Lock(), threading.Event()
    faults: list[str] = []
    written: list[str] = []
    num_swaps = num_reads = 0
    texts, edges = vectors(TEXT, come_and_go, seed=7), vectors(GRAPH, come_and_go, seed=7)

    def write() -> None:
        for round_ in itertools.count():
            if round_ >= 12 and min(num_swaps, num_reads) >= 3:
                written.extend(f"round-{one}" for one in range(round_))
                return
            some = come_and_go[round_ % 4 :: 4]
            live.delete(some)
            with lock:
                gone.update((one, round_) for one in some)
            awaited = num_reads + 4  # of three readers, one began after the deletion at least
            while num_reads < awaited:
                time.sleep(0.001)
            live.upsert(embeddings=[vectors(TEXT, [f"round-{round_}"], seed=round_)])
            with lock:
                gone.difference_update((one, round_) for one in some)
            rows = [come_and_go.index(one) for one in some]
            live.upsert(
                embeddings=[
                    replace(part, item_ids=some, vectors_ND=part.vectors_ND[rows])
                    for part in (texts, edges)
                ]
            )

    def rebuild() -> None:
        nonlocal num_swaps
        for number in itertools.count(1):
            if stop.is_set():
                return
            live.rebuild(
                lambda some, facts, number=number: main(some, facts, kind=kind, digest=str(number))
            )
            num_swaps += 1

    def read() -> None:
        nonlocal num_reads
        query = Query(history=history(stay[0]), exclude_seen=False)
        while not stop.is_set():
            with lock:
                before = set(gone)
            found = [one.item_id for one in live.retrieve(query, limit=1000)]
            with lock:
                still = {one for one, _ in before & gone}
            num_reads += 1
            if len(set(found)) < len(found):
                faults.append("an item is doubled")
            if not set(stay) <= set(found):
                faults.append("an item is missing")
            if still & set(found):
                faults.append(f"{still & set(found)} are answered though they are deleted")

    readers = [threading.Thread(target=read) for _ in range(3)]
    builder, writer = threading.Thread(target=rebuild), threading.Thread(target=write)
    for thread in (*readers, builder, writer):
        thread.start()
    writer.join()
    stop.set()
    for thread in (*readers, builder):
        thread.join()
    assert not faults
    found = {one.item_id for one in live.retrieve(Query(history=history(stay[0])), limit=1000)}
    assert found == {*IDS, *written} - {stay[0]}
