"""The edges of a graph in, a spectral vector of each user and item out; nothing is drawn by chance.

The matrix of users and items is damped by the degrees of both, and its leading singular vectors are
kept, each damped in turn by s^2 / (s^2 + ridge): the ridge regression of items on items (the linear
models of Steck, WWW 2019) on the low frequencies of the graph (GF-CF, Shen et al., CIKM 2021). A
user is the weighted sum of their items' vectors. How far each item's degree counts in what is
recommended is a number of its own, for popular items are worth more than the damped matrix says and
less than counts do. That number is ours.

Friends and item edges are not looked at.

Shape legend: U users, I items, N users and then items, K singular vectors, D dimensions.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from embedders.graph_config import GraphConfig
from embedders.graph_edges import Edges
from embedders.graph_embedder import lifted
from embedders.vectors import normalize


def factors(edges: Edges, *, config: GraphConfig) -> NDArray[np.float32]:
    """Unit vectors of all users and then all items, [N, `config.spectral_dim`].

    Cosines of users with items have the order of the scores. A graph with fewer users or items than
    dimensions leaves the last ones 0.
    """
    num_users, num_items = len(edges.user_ids), len(edges.item_ids)
    matrix_UI = csr_array(
        (edges.weights_E.astype(np.float64), (edges.users_E, edges.items_E)),
        shape=(num_users, num_items),
    )
    degrees_U, degrees_I = matrix_UI.sum(axis=1), matrix_UI.sum(axis=0)
    given, taken = config.spectral_exponents
    damped_UI = matrix_UI @ diags_array(degrees_I**-taken)
    values_K, items_IK = _leading(
        diags_array(degrees_U**-given) @ damped_UI, config.spectral_dim - 1, seed=config.seed
    )
    squares_K = values_K**2
    items_IK = items_IK * np.sqrt(squares_K / (squares_K + config.spectral_ridge * squares_K[0]))
    users_UK = normalize((damped_UI @ items_IK).astype(np.float32))
    items_IK *= (degrees_I**config.spectral_popularity)[:, None]
    items_IK /= np.linalg.norm(items_IK, axis=1).max()
    found_NK = np.concatenate([users_UK, items_IK.astype(np.float32)])
    missing = np.zeros(
        (len(found_NK), config.spectral_dim - 1 - found_NK.shape[1]), dtype=np.float32
    )
    return normalize(lifted(np.column_stack([found_NK, missing]), num_users=num_users))


def joined(
    trained_ND: NDArray[np.float32], spectral_ND: NDArray[np.float32], *, share: float
) -> NDArray[np.float32]:
    """Two unit vectors of each node side by side; cosines are the weighted mean of both's."""
    return np.column_stack([np.sqrt(1 - share) * trained_ND, np.sqrt(share) * spectral_ND]).astype(
        np.float32
    )


def _leading(
    matrix_UI: csr_array, limit: int, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest singular values, falling, [K], and their right vectors, [I, K]."""
    smaller = min(matrix_UI.shape)
    if limit < smaller // 2:
        start = np.random.default_rng(seed).normal(size=smaller)
        _, values_K, items_KI = svds(matrix_UI, k=limit, v0=start, return_singular_vectors="vh")
        order = np.argsort(-values_K, kind="stable")
        values_K, items_KI = values_K[order], items_KI[order]
    else:  # nearly all of them: the plain decomposition is faster, and needs no start
        _, values_K, items_KI = np.linalg.svd(matrix_UI.toarray(), full_matrices=False)
    values_K, items_KI = values_K[:limit], items_KI[:limit]
    has_direction_K = values_K > 1e-9 * values_K[0]
    return values_K[has_direction_K], items_KI[has_direction_K].T
