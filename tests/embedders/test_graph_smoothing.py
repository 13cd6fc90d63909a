"""One layer of smoothing beside the same written down with dense matrices."""

from typing import Any

import numpy as np
import pytest
import torch

from embedders.graph_edges import Edges, Relation
from embedders.graph_smoothing import Smoothing, unit

NUM_USERS, NUM_ITEMS = 3, 4
NUM_NODES = NUM_USERS + NUM_ITEMS


def relation(pairs: list[tuple[int, int]], *, share: float, name: str = "r") -> Relation:
    left, right = np.array(sorted(pairs)).T
    weights = np.linspace(0.5, 2, len(pairs), dtype=np.float32)
    return Relation(name=name, left_P=left, right_P=right, weights_P=weights, share=share)


VIEWS = relation([(0, 3), (0, 4), (1, 4), (2, 5), (2, 6)], share=0.2)
BUYS = relation([(0, 3), (1, 5), (1, 4)], share=1.0)
FRIENDS = relation([(0, 1)], share=0.5)


def edges_of(*relations: Relation) -> Edges:
    return Edges(
        user_ids=list("abc"),
        item_ids=list("wxyz"),
        users_E=np.array([0]),
        items_E=np.array([0]),
        weights_E=np.ones(1, dtype=np.float32),
        relations=relations,
    )


def adjacency(one: Relation, exponents: tuple[float, float] = (0.5, 0.5)) -> torch.Tensor:
    matrix = torch.zeros(NUM_NODES, NUM_NODES, dtype=torch.float64)
    for left, right, weight in zip(one.left_P, one.right_P, one.weights_P, strict=True):
        matrix[left, right] = matrix[right, left] = float(weight)
    degrees = matrix.sum(dim=1)
    received, sent = (torch.where(degrees > 0, degrees**-e, 0) for e in exponents)
    return received[:, None] * matrix * sent


def mixed(relations: tuple[Relation, ...]) -> torch.Tensor:
    """Each node's mean over the relations that it has an edge in."""
    dense = [adjacency(one) for one in relations]
    shares = torch.stack(
        [one.share * (matrix.sum(dim=1) > 0) for one, matrix in zip(relations, dense, strict=True)]
    )
    shares = shares / shares.sum(dim=0)
    return sum(share[:, None] * matrix for share, matrix in zip(shares, dense, strict=True))  # type: ignore[return-value]


X = torch.randn(NUM_NODES, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def smoothed(layer: Smoothing) -> tuple[torch.Tensor, torch.Tensor]:
    """What the layer makes of X, and the gradient of its sum of squares."""
    x = X.float().requires_grad_()
    out = layer(x)
    out.square().sum().backward()
    assert x.grad is not None
    return out.detach().double(), x.grad.double()


def expected(matrix: torch.Tensor, *, scale: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    x = X.clone().requires_grad_()
    out = matrix @ (torch.nn.functional.normalize(x, dim=1) if scale else x)
    out.square().sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("is_learned", [False, True])
def test_relations_are_mixed_by_their_shares_at_each_node(is_learned: bool) -> None:
    layer = Smoothing(edges_of(VIEWS, BUYS, FRIENDS), is_learned=is_learned)
    for found, right in zip(smoothed(layer), expected(mixed((VIEWS, BUYS, FRIENDS))), strict=True):
        torch.testing.assert_close(found, right, **CLOSE)


@pytest.mark.parametrize("is_learned", [False, True])
def test_a_single_relation_is_lightgcn_whatever_its_share(is_learned: bool) -> None:
    layer = Smoothing(edges_of(VIEWS), is_learned=is_learned)
    whole = relation([(0, 3), (0, 4), (1, 4), (2, 5), (2, 6)], share=1.0)
    plain, _ = smoothed(Smoothing(edges_of(whole)))
    assert torch.equal(smoothed(layer)[0], plain)
    torch.testing.assert_close(plain, adjacency(VIEWS) @ X, **CLOSE)


def test_unequal_exponents_damp_receiving_and_sending_unequally() -> None:
    layer = Smoothing(edges_of(VIEWS), exponents=(0.6, -0.1), scale=True)
    right = expected(adjacency(VIEWS, (0.6, -0.1)), scale=True)
    for found, one in zip(smoothed(layer), right, strict=True):
        torch.testing.assert_close(found, one, **CLOSE)


def test_learned_shares_start_as_given_and_move_toward_what_helps() -> None:
    layer = Smoothing(edges_of(VIEWS, BUYS), is_learned=True)
    assert layer.shares == pytest.approx([1 / 6, 5 / 6])
    target = (adjacency(VIEWS) @ X).float()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (layer(X.float()) - target).square().sum().backward()
        optimizer.step()
    assert layer.shares is not None
    assert layer.shares[0] > 0.8


def test_given_shares_are_no_parameters() -> None:
    layer = Smoothing(edges_of(VIEWS, BUYS))
    assert layer.shares is None
    assert list(layer.parameters()) == []


def test_unit_rows_have_the_gradient_of_normalize() -> None:
    ours, theirs = (X.float().requires_grad_() for _ in range(2))
    (unit(ours)[:, 0] ** 3).sum().backward()
    (torch.nn.functional.normalize(theirs, dim=1)[:, 0] ** 3).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not unit(torch.zeros(2, 3)).any()
