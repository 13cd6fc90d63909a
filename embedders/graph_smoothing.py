"""Relations in, the layer that smooths every node's vector over its neighbors out.

Each relation has a normalized adjacency of its own, `weight / (degree^a * degree^b)`: with both
exponents 1/2 it is LightGCN's (He et al., arXiv 2002.02126); with unequal ones, and vectors of unit
length sent on, LightGCN++'s (Lee et al., RecSys 2024). Behaviors as relations whose shares are
learned once for all nodes, and settled anew among the behaviors that a node has, are MBGCN's idea
(Jin et al., SIGIR 2020). Ours is that the shares are a softmax, that counts do not enter them (a
normalized adjacency has them already), that items mix as users do, that no matrix transforms a
message, and that friends and item edges are relations like any other. Of one relation it is
LightGCN, to the bit.

Shape legend: N nodes, D dimensions, R relations, P pairs of one relation.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedders.graph_edges import Edges, Relation

Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Row, column and value of each entry of a matrix."""


class Smoothing(torch.nn.Module):
    """One layer: x_ND -> what each node's neighbors send it, [N, D].

    A node's message is the mean of its relations' messages, weighted by their shares among the
    relations in which the node has an edge at all.
    """

    def __init__(
        self,
        edges: Edges,
        *,
        is_learned: bool = False,
        exponents: tuple[float, float] = (0.5, 0.5),
        scale: bool = False,
    ) -> None:
        """Args:
        edges: The nodes and relations.
        is_learned: The shares are trained, starting from the given ones.
        exponents: Of the degree of who receives, and of who sends.
        scale: Send unit vectors.
        """
        super().__init__()
        self._scale = scale
        relations, num_nodes = edges.relations, edges.num_nodes
        shares_R = np.array([one.share for one in relations])
        has_NR = np.stack([_degrees(one, num_nodes) > 0 for one in relations], axis=1)
        adjacencies = [_normalized(one, num_nodes, exponents) for one in relations]
        is_symmetric = exponents[0] == exponents[1]
        self._log_shares_R: torch.nn.Parameter | None = None
        if is_learned:
            self._log_shares_R = torch.nn.Parameter(torch.from_numpy(np.log(shares_R)).float())
            self._has_NR = torch.from_numpy(has_NR).float()
        else:
            # Shares that do not change are multiplied in once, so that a layer is one product.
            shares_NR = has_NR * shares_R
            shares_NR /= shares_NR.sum(axis=1, keepdims=True)
            adjacencies = [_mixed(adjacencies, shares_NR)]
            is_symmetric = is_symmetric and len(relations) == 1
        self._products = [
            _Product(one, num_nodes, is_symmetric=is_symmetric) for one in adjacencies
        ]

    @property
    def shares(self) -> list[float] | None:
        """The learned shares, in the order of the relations; None where they are given."""
        if self._log_shares_R is None:
            return None
        shares: list[float] = torch.softmax(self._log_shares_R.detach(), dim=0).tolist()
        return shares

    def forward(self, x_ND: Tensor, *_: Any) -> Tensor:
        """Smooth once. Further arguments are torch_geometric's convention, and passed over."""
        if self._scale:
            x_ND = unit(x_ND)
        if self._log_shares_R is None:
            return self._products[0](x_ND)
        shares_NR = self._has_NR * torch.softmax(self._log_shares_R, dim=0)
        shares_NR = shares_NR / shares_NR.sum(dim=1, keepdim=True)
        mixed_ND = shares_NR[:, :1] * self._products[0](x_ND)
        for r, product in enumerate(self._products[1:], start=1):
            mixed_ND = mixed_ND + shares_NR[:, r : r + 1] * product(x_ND)
        return mixed_ND


def unit(x_ND: Tensor) -> Tensor:
    """Rows of unit length. As `normalize`, with a gradient of three passes over memory, not ten."""
    unit_ND: Tensor = _Unit.apply(x_ND)  # type: ignore[no-untyped-call]
    return unit_ND


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor) -> Tensor:
        norms_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True).clamp_min_(1e-12)
        unit_ND: Tensor = x_ND / norms_N1
        ctx.save_for_backward(unit_ND, norms_N1)
        return unit_ND

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        unit_ND, norms_N1 = ctx.saved_tensors
        along_N1 = (gradients[0] * unit_ND).sum(dim=1, keepdim=True)
        across_ND: Tensor = torch.addcmul(gradients[0], unit_ND, along_N1, value=-1)
        across_ND /= norms_N1
        return across_ND


class _Product:
    """matrix @ x, with a gradient that does not transpose the matrix at every step.

    The stock gradient does, which takes two thirds of the training time.
    """

    def __init__(self, matrix: Entries, num_nodes: int, *, is_symmetric: bool) -> None:
        rows, columns, values = matrix
        self._matrix_NN = _csr(rows, columns, values, num_nodes)
        self._transposed_NN = (
            self._matrix_NN if is_symmetric else _csr(columns, rows, values, num_nodes)
        )

    def __call__(self, x_ND: Tensor) -> Tensor:
        product_ND: Tensor = _SparseProduct.apply(  # type: ignore[no-untyped-call]
            self._matrix_NN, self._transposed_NN, x_ND
        )
        return product_ND


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix_NN: Tensor, transposed_NN: Tensor, x_ND: Tensor) -> Tensor:
        ctx.transposed_NN = transposed_NN
        return matrix_NN @ x_ND

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed_NN @ gradients[0].contiguous()


def _degrees(relation: Relation, num_nodes: int) -> NDArray[np.float64]:
    """The summed weights of each node's edges, [N]."""
    nodes = np.concatenate([relation.left_P, relation.right_P])
    weights = np.concatenate([relation.weights_P, relation.weights_P])
    degrees_N: NDArray[np.float64] = np.zeros(num_nodes)
    degrees_N += np.bincount(nodes, weights=weights, minlength=num_nodes)
    return degrees_N


def _normalized(relation: Relation, num_nodes: int, exponents: tuple[float, float]) -> Entries:
    """Both directions of every edge, damped by the degrees of who receives and of who sends."""
    rows = np.concatenate([relation.left_P, relation.right_P])
    columns = np.concatenate([relation.right_P, relation.left_P])
    weights = np.concatenate([relation.weights_P, relation.weights_P])
    degrees_N = _degrees(relation, num_nodes)
    if exponents == (0.5, 0.5):
        return rows, columns, weights / np.sqrt(degrees_N[rows] * degrees_N[columns])
    return (
        rows,
        columns,
        weights * degrees_N[rows] ** -exponents[0] * degrees_N[columns] ** -exponents[1],
    )


def _mixed(adjacencies: Sequence[Entries], shares_NR: NDArray[np.float64]) -> Entries:
    """The relations' adjacencies in one, each row weighted by its node's shares."""
    rows = np.concatenate([one[0] for one in adjacencies])
    columns = np.concatenate([one[1] for one in adjacencies])
    values = np.concatenate([one[2] * shares_NR[one[0], r] for r, one in enumerate(adjacencies)])
    if len(adjacencies) == 1:
        return rows, columns, values
    keys, entry_of = np.unique(rows * len(shares_NR) + columns, return_inverse=True)
    summed: NDArray[np.float64] = np.zeros(len(keys))
    summed += np.bincount(entry_of, weights=values)
    return keys // len(shares_NR), keys % len(shares_NR), summed


def _csr(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64], num_nodes: int
) -> Tensor:
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_nodes))])
    with warnings.catch_warnings():  # torch calls its CSR tensors beta; products of them suffice
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns[order]),
            torch.from_numpy(values[order].astype(np.float32)),
            size=(num_nodes, num_nodes),
            check_invariants=True,
        )
