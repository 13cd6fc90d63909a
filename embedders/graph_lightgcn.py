"""Interactions in, one vector for each item and user of the graph out (LightGCN, SIGIR 2020).

Users and items are nodes, and who touched what are the edges; a node's vector is the mean over
the layers of its neighbors' smoothed vectors (He et al., arXiv 2002.02126). Two things differ
from the paper. Training compares cosines, because cosines are what the index will search, and an
edge's weight counts both in the smoothing and in the loss.

Only events strictly before `until` make edges, so that a vector never knows what came later.
Equal edges, configuration and number of threads give bit-equal vectors.

Shape legend: N nodes (users first, then items), U users, I items, E edges, B a batch, D dimensions.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.nn import LGConv, LightGCN

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality
from embedders.vectors import Embeddings, Space, normalize

OnProgress = Callable[[int, int, float], None]
"""Called after each epoch with (epochs done, epochs in all, mean loss)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How the graph is read and trained."""

    dim: int = 64
    num_layers: int = 2
    epochs: int = 40
    batch_size: int = 8192
    learning_rate: float = 0.02
    weight_decay: float = 1e-4
    """L2 on the untouched (layer 0) vectors of each batch, as in the paper."""
    temperature: float = 0.15
    """Cosines are divided by it in the loss; smaller ones chase the hardest pairs."""
    behavior_weights: Mapping[str, float] | None = None
    """An edge's weight is its strongest behavior's. None, or a behavior left out, weighs 1; a
    behavior of weight 0 makes no edge."""
    min_weight: float | None = None
    """Events whose stored weight (a rating) is lower make no edge; those without one do."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "epochs", "batch_size", "learning_rate", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for behavior, weight in (self.behavior_weights or {}).items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"behavior_weights[{behavior!r}] must be 0 or more, got {weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edges:
    """Each pair of a user and an item once, sorted by user and then item."""

    user_ids: list[str]
    item_ids: list[str]
    users_E: NDArray[np.int64]
    items_E: NDArray[np.int64]
    weights_E: NDArray[np.float32]


class LightGcnEmbedder(Embedder):
    """Looks up the vectors that `fit` trained; users live in the same space as items."""

    rows_per_batch = 4096  # nothing is lost that takes long, and a batch is a file
    is_looked_up = True

    def __init__(
        self,
        *,
        items: Embeddings,
        users: Embeddings,
        until: datetime | None,
    ) -> None:
        self.space = items.space
        self.until = until
        """Only events strictly before it made edges; None means all did."""
        self._items = items
        self._users = users
        self._rows = {item_id: row for row, item_id in enumerate(items.item_ids)}

    def fingerprint(self, item: Item) -> str | None:
        """The revision, for one more edge may move every vector; None for an item without edges."""
        return self.space.revision if item.item_id in self._rows else None

    def load(self, item: Item) -> int:
        """The item's row among the trained vectors."""
        if item.item_id not in self._rows:
            raise BadContent(f"item {item.item_id!r} has no interaction before {self.until}")
        return self._rows[item.item_id]

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Rows as `load` gave them -> their vectors, [N, D]."""
        return self._items.vectors_ND[np.asarray(contents, dtype=np.int64)]

    def users(self) -> Embeddings:
        """The vectors of all users with an edge, by user id; inner products with items compare."""
        return self._users


def fit(
    interactions: pa.Table,
    *,
    until: datetime | None,
    config: GraphConfig,
    on_progress: OnProgress | None = None,
) -> LightGcnEmbedder:
    """Train LightGCN on who touched what before `until`.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally weight.
        until: The training cut, in UTC. Given one, events without a timestamp are left out,
            since nothing shows that they came before it. None takes all events.
        config: How the graph is read and trained.
        on_progress: Told about each epoch.

    Raises:
        ValueError: no event is left to train on.
    """
    edges = _read_edges(interactions, until=until, config=config)
    vectors_ND = normalize(_train(edges, config=config, on_progress=on_progress))
    space = Space(
        modality=Modality.GRAPH,
        encoder="lightgcn",
        revision=_revision(edges, until=until, config=config),
        dim=config.dim,
        preprocessing="user-item graph",
    )
    num_users = len(edges.user_ids)
    return LightGcnEmbedder(
        users=Embeddings(space=space, item_ids=edges.user_ids, vectors_ND=vectors_ND[:num_users]),
        items=Embeddings(space=space, item_ids=edges.item_ids, vectors_ND=vectors_ND[num_users:]),
        until=until,
    )


def _read_edges(interactions: pa.Table, *, until: datetime | None, config: GraphConfig) -> _Edges:
    events = interactions
    if until is not None:
        if until.tzinfo is None:
            raise ValueError(f"until needs a time zone (UTC), got {until}")
        cut = pa.scalar(until, type=events.schema.field("timestamp").type)
        events = events.filter(pc.less(events["timestamp"], cut))
    if config.min_weight is not None and "weight" in events.column_names:
        is_enough = pc.greater_equal(events["weight"], config.min_weight)
        events = events.filter(pc.fill_null(is_enough, True))
    behaviors = events["behavior"].to_pylist()
    by_behavior = config.behavior_weights or {}
    weights = np.array([by_behavior.get(behavior, 1.0) for behavior in behaviors], np.float32)
    events, weights = events.filter(pa.array(weights > 0)), weights[weights > 0]
    if events.num_rows == 0:
        raise ValueError(
            f"no interaction is left to train the graph on: of {interactions.num_rows}, none "
            f"is before until={until} with min_weight={config.min_weight} and a behavior that "
            f"weighs more than 0; choose a later cut or looser limits"
        )
    user_ids, users = np.unique(events["user_id"].to_numpy().astype(str), return_inverse=True)
    item_ids, items = np.unique(events["item_id"].to_numpy().astype(str), return_inverse=True)
    keys_E, pair_of_event = np.unique(users * len(item_ids) + items, return_inverse=True)
    weights_E = np.zeros(len(keys_E), dtype=np.float32)
    np.maximum.at(weights_E, pair_of_event, weights)
    return _Edges(
        user_ids=user_ids.tolist(),
        item_ids=item_ids.tolist(),
        users_E=keys_E // len(item_ids),
        items_E=keys_E % len(item_ids),
        weights_E=weights_E,
    )


def _revision(edges: _Edges, *, until: datetime | None, config: GraphConfig) -> str:
    facts = {
        "config": {**asdict(config), "behavior_weights": dict(config.behavior_weights or {})},
        "until": until.isoformat() if until else None,
        "users": edges.user_ids,
        "items": edges.item_ids,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for column in (edges.users_E, edges.items_E, edges.weights_E):
        digest.update(column.tobytes())
    return digest.hexdigest()[:16]


class _SymmetricProduct(torch.autograd.Function):
    """adjacency @ x for a symmetric adjacency, whose gradient is the same product.

    The stock gradient transposes the sparse matrix at every step, which takes two thirds of the
    training time.
    """

    @staticmethod
    def forward(ctx: Any, adjacency_NN: Tensor, x_ND: Tensor) -> Tensor:
        ctx.adjacency_NN = adjacency_NN
        return adjacency_NN @ x_ND

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.adjacency_NN @ gradients[0].contiguous()


class _SymmetricConv(LGConv):
    """LightGCN's smoothing by an adjacency that is already normalized, and symmetric."""

    def message_and_aggregate(self, adj_t: Tensor, x: Tensor) -> Tensor:
        smoothed_ND: Tensor = _SymmetricProduct.apply(adj_t, x)  # type: ignore[no-untyped-call]
        return smoothed_ND


def _adjacency(edges: _Edges) -> Tensor:
    """The normalized symmetric adjacency in CSR: weight / sqrt(degree * degree)."""
    num_users = len(edges.user_ids)
    num_nodes = num_users + len(edges.item_ids)
    items_E = edges.items_E + num_users
    rows = np.concatenate([edges.users_E, items_E])
    columns = np.concatenate([items_E, edges.users_E])
    weights = np.concatenate([edges.weights_E, edges.weights_E])
    degrees_N = np.bincount(rows, weights=weights, minlength=num_nodes)
    weights = (weights / np.sqrt(degrees_N[rows] * degrees_N[columns])).astype(np.float32)
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_nodes))])
    with warnings.catch_warnings():  # torch calls its CSR tensors beta; products of them suffice
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns[order]),
            torch.from_numpy(weights[order]),
            size=(num_nodes, num_nodes),
            check_invariants=True,
        )


class _Negatives:
    """Draws items that a user never touched, uniformly and without a rejected draw.

    The r-th unknown item of a user is r plus the number of known items at or before it: with the
    known items p_0 < p_1 < ..., that is the number of j with p_j - j <= r. All users' values of
    p_j - j lie in one sorted row, so a binary search answers a whole batch.
    """

    def __init__(self, edges: _Edges) -> None:
        num_users = len(edges.user_ids)
        num_known_U = np.bincount(edges.users_E, minlength=num_users)
        starts_U = np.cumsum(num_known_U) - num_known_U
        shifted_E = edges.items_E - (np.arange(len(edges.items_E)) - starts_U[edges.users_E])
        self._stride = len(edges.item_ids) + 1
        self._keys_E = torch.from_numpy(edges.users_E * self._stride + shifted_E)
        self._starts_U = torch.from_numpy(starts_U)
        self.num_unknown_U = torch.from_numpy(len(edges.item_ids) - num_known_U)

    def draw(self, users_B: Tensor, generator: torch.Generator) -> Tensor:
        """One unknown item for each user; every user must have one."""
        uniform_B = torch.rand(len(users_B), generator=generator, dtype=torch.float64)
        draws_B = (uniform_B * self.num_unknown_U[users_B]).long()
        ends_B = torch.searchsorted(self._keys_E, users_B * self._stride + draws_B, right=True)
        return draws_B + ends_B - self._starts_U[users_B]


def _train(
    edges: _Edges, *, config: GraphConfig, on_progress: OnProgress | None
) -> NDArray[np.float32]:
    """The smoothed vectors of all nodes after training, [N, D], not yet normalized."""
    num_users = len(edges.user_ids)
    adjacency_NN = _adjacency(edges)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LightGCN(
            num_users + len(edges.item_ids), config.dim, config.num_layers, normalize=False
        )
    model.convs = torch.nn.ModuleList(_SymmetricConv(normalize=False) for _ in model.convs)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(config.seed)
    negatives = _Negatives(edges)
    users_E, items_E = torch.from_numpy(edges.users_E), torch.from_numpy(edges.items_E)
    weights_E = torch.from_numpy(edges.weights_E)
    # A user who touched every item has no negative; the smoothing still places such a user.
    trainable = torch.nonzero(negatives.num_unknown_U[users_E] > 0).squeeze(1)
    for epoch in range(1, config.epochs + 1):
        order = trainable[torch.randperm(len(trainable), generator=generator)]
        total = 0.0
        for start in range(0, len(order), config.batch_size):
            batch_B = order[start : start + config.batch_size]
            unknown_B = negatives.draw(users_E[batch_B], generator)
            nodes_3B = torch.stack(
                [users_E[batch_B], items_E[batch_B] + num_users, unknown_B + num_users]
            )
            loss = _loss(model, adjacency_NN, nodes_3B, weights_E[batch_B], config)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += float(loss.detach()) * len(batch_B)
        if on_progress is not None:
            on_progress(epoch, config.epochs, total / max(len(order), 1))
    with torch.no_grad():
        vectors_ND: NDArray[np.float32] = model.get_embedding(adjacency_NN).numpy()
    return vectors_ND


def _loss(
    model: LightGCN, adjacency_NN: Tensor, nodes_3B: Tensor, weights_B: Tensor, config: GraphConfig
) -> Tensor:
    """BPR on cosines: a user lies closer to a known item than to an unknown one.

    Lookups go through `embedding`, whose gradient is summed in a fixed order on every CPU.
    """
    vectors_ND = torch.nn.functional.normalize(model.get_embedding(adjacency_NN), dim=1)
    users_BD, known_BD, unknown_BD = torch.nn.functional.embedding(nodes_3B, vectors_ND)
    margins_B = (users_BD * (known_BD - unknown_BD)).sum(dim=1) / config.temperature
    bpr = -(weights_B * torch.nn.functional.logsigmoid(margins_B)).sum() / weights_B.sum()
    untouched = torch.nn.functional.embedding(nodes_3B, model.embedding.weight)
    return bpr + config.weight_decay * untouched.square().sum() / nodes_3B.shape[1]
