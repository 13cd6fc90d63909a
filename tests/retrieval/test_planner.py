"""However much a filter leaves, and wherever, what it allows is found."""

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.attributes import Attributes
from retrieval.base import Index
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.exact import ExactIndex
from retrieval.filters import Filter
from retrieval.planner import Searcher
from retrieval.registry import KINDS, create

NUM_ITEMS, DIM, LIMIT = 6000, 24, 100
SHARES = (0.5, 0.1, 0.01, 0.001)
SHAPES = ("scattered", "far", "near", "region")


def world() -> tuple[ItemVectors, np.ndarray, Attributes]:
    """Items in clusters, queries around one of them, and for each shape of a filter a column.

    An item's number in a column is its rank in the order by which the filter takes items in:
    at random, the least and the most like the queries first, or along some direction.
    """
    random = np.random.default_rng(0)
    centers = random.normal(size=(60, DIM))
    drawn = centers[random.integers(0, 60, NUM_ITEMS)] + 0.7 * random.normal(size=(NUM_ITEMS, DIM))
    ids = [f"{row:05}" for row in random.permutation(NUM_ITEMS)]
    space = Space(modality=Modality.GRAPH, encoder="drawn", revision="1", dim=DIM)
    items = concatenate([Embeddings(space=space, item_ids=ids, vectors_ND=normalize(drawn))])
    vectors = items.vectors_ND
    queries = normalize(vectors[7] + 0.05 * random.normal(size=(8, DIM)))
    orders = {
        "scattered": random.normal(size=NUM_ITEMS),
        "far": vectors @ vectors[7],
        "near": -(vectors @ vectors[7]),
        "region": vectors @ random.normal(size=DIM),
    }
    ranks = {name: np.argsort(np.argsort(values)) for name, values in orders.items()}
    return items, queries, Attributes.of(pa.table({"item_id": items.item_ids, **ranks}))


ITEMS, QUERIES, ATTRIBUTES = world()


def filled(kind: str) -> Index:
    index = create(kind, dim=DIM)
    order = np.random.default_rng(1).permutation(NUM_ITEMS)
    index.add([ITEMS.item_ids[row] for row in order], ITEMS.vectors_ND[order])
    return index


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> Index:
    return filled(request.param)


EXACT = Searcher(filled("exact"), ITEMS, ATTRIBUTES)


def kept(shape: str, share: float) -> Filter:
    return Filter.parse([f"{shape}<={int(share * NUM_ITEMS) - 1}"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("scan_products", [0, 1 << 15])
def test_recall_does_not_collapse_whatever_is_allowed(
    index: Index, shape: str, share: float, scan_products: int
) -> None:
    searcher = Searcher(index, ITEMS, ATTRIBUTES, scan_products=scan_products)
    found = searcher.search(QUERIES, limit=LIMIT, filter=kept(shape, share))
    true = EXACT.search(QUERIES, limit=LIMIT, filter=kept(shape, share))
    num_allowed = int(share * NUM_ITEMS)
    for some, best in zip(found, true, strict=True):
        assert len(some) == len(best) == min(LIMIT, num_allowed)
        assert [one for one, _ in some] == [
            one for one, _ in sorted(some, key=lambda pair: (-pair[1], pair[0]))
        ]
    recalls = [
        len(dict(some).keys() & dict(best).keys()) / len(best)
        for some, best in zip(found, true, strict=True)
    ]
    assert np.mean(recalls) >= 0.95
    if not index.efforts:
        assert found == true


@pytest.mark.parametrize("shape", SHAPES)
def test_a_query_is_answered_alone_as_among_others(index: Index, shape: str) -> None:
    searcher = Searcher(index, ITEMS, ATTRIBUTES, scan_products=0)
    together = searcher.search(QUERIES, limit=30, filter=kept(shape, 0.3))
    for row, pairs in enumerate(together):
        assert searcher.search(QUERIES[[row]], limit=30, filter=kept(shape, 0.3)) == [pairs]


def test_without_a_filter_the_index_is_asked_as_it_is(index: Index) -> None:
    searcher = Searcher(index, ITEMS, ATTRIBUTES)
    expected = index.search(QUERIES, limit=20)
    assert searcher.search(QUERIES, limit=20) == expected
    assert searcher.search(QUERIES, limit=20, filter=Filter()) == expected


def test_a_filter_that_allows_nothing_finds_nothing(index: Index) -> None:
    searcher = Searcher(index, ITEMS, ATTRIBUTES)
    assert searcher.search(QUERIES, limit=5, filter=Filter(allow=frozenset())) == [[]] * 8
    with pytest.raises(ValueError, match="there are: far, near, region, scattered"):
        searcher.search(QUERIES, limit=5, filter=Filter.parse(["price<=3"]))


def test_items_that_are_removed_are_not_found_few_or_many(index: Index) -> None:
    first = [one for one, _ in EXACT.search(QUERIES[:1], limit=400)[0]]
    searcher = Searcher(index, ITEMS, ATTRIBUTES, scan_products=0)
    for count in (3, 350):
        gone = frozenset([*first[:count], "unheard"])
        found = searcher.without(gone).search(QUERIES[:1], limit=30)[0]
        expected = first[count : count + 30]
        assert len(found) == 30
        assert not gone & dict(found).keys()
        assert len(dict(found).keys() & set(expected)) >= 29
    twice = searcher.without(frozenset(first[:3])).without(frozenset(first[3:6]))
    assert not set(first[:6]) & dict(twice.search(QUERIES[:1], limit=30)[0]).keys()
    filtered = searcher.without(frozenset(first[:3])).search(
        QUERIES[:1], limit=5, filter=Filter(allow=frozenset(first[:8]))
    )
    assert [one for one, _ in filtered[0]] == first[3:8]


def test_an_index_of_other_items_is_refused() -> None:
    index = ExactIndex(dim=DIM)
    index.add(["unheard"], np.ones((1, DIM), dtype=np.float32))
    with pytest.raises(ValueError, match="such as 'unheard', are not among the item vectors"):
        Searcher(index, ITEMS)
