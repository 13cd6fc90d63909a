"""What the losses compare, and that they fall where the right items are near."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from embedders.graph_config import GraphConfig
from embedders.graph_edges import Edges
from embedders.graph_losses import Bpr, Loss, Negatives, Softmax, create


def test_negatives_are_exactly_the_unknown_items_drawn_evenly() -> None:
    edges = Edges(
        user_ids=["a", "b", "c"],
        item_ids=list("vwxyz"),
        users_E=np.array([0, 0, 1, 1, 1, 1]),
        items_E=np.array([0, 3, 1, 2, 3, 4]),
        weights_E=np.ones(6, dtype=np.float32),
        relations=(),
    )
    negatives = Negatives(edges)
    generator = torch.Generator().manual_seed(0)
    users = torch.tensor([0, 1, 2]).repeat_interleave(6000)
    drawn = negatives.draw(users, generator).reshape(3, -1).numpy()
    counts = [np.bincount(row, minlength=5) for row in drawn]
    np.testing.assert_allclose(counts[0], [0, 2000, 2000, 0, 2000], atol=200)
    assert counts[1].tolist() == [6000, 0, 0, 0, 0]
    np.testing.assert_allclose(counts[2], [1200] * 5, atol=150)


def edges_of(pairs: list[tuple[int, int]], *, num_users: int, num_items: int) -> Edges:
    pairs = sorted(pairs)
    return Edges(
        user_ids=[f"u{n}" for n in range(num_users)],
        item_ids=[f"i{n}" for n in range(num_items)],
        users_E=np.array([user for user, _ in pairs]),
        items_E=np.array([item for _, item in pairs]),
        weights_E=np.ones(len(pairs), dtype=np.float32),
        relations=(),
    )


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_a_loss_is_smaller_where_users_lie_by_what_they_know(loss: str) -> None:
    edges = edges_of([(0, 0), (1, 1)], num_users=2, num_items=2)
    compare = create(edges, GraphConfig(loss=loss))  # type: ignore[arg-type]
    batch = compare.order(torch.Generator().manual_seed(0))
    apart = torch.eye(2).repeat(2, 1)
    crossed = torch.cat([torch.eye(2), torch.eye(2).flip(0)])

    def of(vectors: torch.Tensor) -> float:
        return float(compare(vectors, batch, torch.Generator().manual_seed(0))[0])

    assert of(apart) < 0.01 < of(crossed)


def test_the_softmax_over_all_items_is_the_full_softmax() -> None:
    edges = edges_of([(0, 0), (0, 2), (1, 3)], num_users=2, num_items=5)
    vectors = torch.nn.functional.normalize(torch.randn(7, 8), dim=1)
    config = GraphConfig(loss="softmax", num_negatives=100, temperature=0.5)
    batch = torch.arange(3)
    found, nodes = Softmax(edges, config)(vectors, batch, torch.Generator().manual_seed(0))
    scores = vectors[torch.tensor([0, 0, 1])] @ vectors[2:].T / 0.5
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 2, 3]))
    torch.testing.assert_close(found, expected)
    assert nodes.tolist() == [[0, 0, 1], [2, 4, 5]]


def test_all_pairs_of_a_user_come_together_in_an_order_that_changes() -> None:
    pairs = [(user, item) for user in range(6) for item in range(user % 3 + 1)]
    compare = Softmax(edges_of(pairs, num_users=6, num_items=3), GraphConfig(loss="softmax"))
    generator = torch.Generator().manual_seed(1)
    users = [[pairs[place][0] for place in compare.order(generator)] for _ in range(2)]
    for listed in users:
        changes = sum(one != other for one, other in pairwise(listed))
        assert changes == 5
        assert sorted(listed) == sorted(user for user, _ in pairs)
    assert users[0] != users[1]


def test_a_pair_of_twice_the_weight_counts_twice() -> None:
    pairs = [(0, 0), (1, 1)]
    vectors = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    losses = []
    for weights in ([1.0, 0.0], [0.0, 1.0], [2.0, 1.0]):
        edges = edges_of(pairs, num_users=2, num_items=3)
        edges.weights_E[:] = weights
        compare = Softmax(edges, GraphConfig(loss="softmax", num_negatives=3))
        losses.append(compare(vectors, torch.arange(2), torch.Generator())[0])
    torch.testing.assert_close(losses[2], (2 * losses[0] + losses[1]) / 3)


def test_a_pair_without_an_unknown_item_is_no_pair_to_compare() -> None:
    edges = edges_of([(0, 0), (0, 1), (1, 1)], num_users=2, num_items=2)
    compare: Loss = Bpr(edges, GraphConfig())
    assert compare.order(torch.Generator()).tolist() == [2]
