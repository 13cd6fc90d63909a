"""How the graph encoder reads, trains and fills in: plain values, which load no model library.

Every field that the encoder looks at is part of the revision of the trained space.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

POSITIVE = (
    "dim",
    "num_layers",
    "epochs",
    "batch_size",
    "learning_rate",
    "temperature",
    "num_negatives",
    "impute_neighbors",
    "spectral_ridge",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How the graph encoder is trained."""

    dim: int = 64
    """Of the vectors; with compare = "dot", one of these numbers carries the items' lengths."""
    num_layers: int = 2
    epochs: int = 20
    batch_size: int = 8192
    """Pairs of a user and an item in one step. A step smooths the whole graph once, so that a
    larger graph wants larger batches."""
    learning_rate: float = 0.02
    weight_decay: float = 1e-4
    """L2 on the untouched (layer 0) vectors of each batch."""
    compare: Literal["cosine", "dot"] = "cosine"
    """What training compares. cosine: as the index will search. dot: inner products, in which an
    item's length says how popular it is; one more dimension then gives all items unit length, so
    that cosines of users with items have the order of the inner products."""
    temperature: float = 0.15
    """What is compared is divided by it in the loss; smaller ones chase the hardest pairs."""
    loss: Literal["bpr", "softmax"] = "softmax"
    """bpr: a known item beats one unknown item of the same user. softmax: it beats
    `num_negatives` items that the whole batch shares, all pairs of a user in one batch; it needs
    fewer steps, so that large batches suit it."""
    num_negatives: int = 1024
    """Items that a batch of the softmax loss shares; as many as there are, or more, takes all."""
    mixing: Literal["strongest", "given", "learned"] = "strongest"
    """How behaviors act together. strongest: one adjacency, in which a pair counts as its strongest
    behavior. given: each behavior is a relation with an adjacency of its own, and a node's message
    is their mean, weighted by behavior_weights. learned: the same with weights that are trained,
    starting from behavior_weights."""
    behavior_weights: Mapping[str, float] | None = None
    """Without it, or for a behavior left out, 1; a behavior of weight 0 makes no edge. In the loss
    a pair always weighs as its strongest behavior."""
    min_weight: float | None = None
    """Events whose stored weight (a rating) is lower make no edge; those without one do."""
    friend_weight: float = 0.5
    """Of the catalog's friends, where it has any, in the smoothing of users, beside the behaviors'
    weights; 0 leaves them out."""
    item_edge_weight: float = 0.0
    """Of the catalog's item edges in the smoothing of items; 0 leaves them out."""
    degree_exponents: tuple[float, float] = (0.5, 0.5)
    """How much a node's number of neighbors damps what it receives, and what it sends. LightGCN
    has a half for both; LightGCN++ makes them unequal."""
    scale_layers: bool = False
    """Send unit vectors from layer to layer, as LightGCN++ does."""
    own_share: float | None = None
    """The untouched vector's share of the result, the other layers sharing the rest evenly, as in
    LightGCN++; without it all layers weigh the same, as in LightGCN."""
    spectral_dim: int = 65
    """Of the spectral vectors; one of these numbers carries the items' lengths."""
    spectral_share: float = 0.0
    """Of the encoder lightgcn: above 0, its vectors (`dim`) and the spectral ones (`spectral_dim`)
    stand side by side, and this is the share of the latter's cosine in the whole."""
    spectral_exponents: tuple[float, float] = (0.5, 0.3)
    """How much a user's and an item's number of edges damp them, before the spectrum is taken."""
    spectral_ridge: float = 0.1
    """Times the largest squared singular value: the smaller ones are damped the more."""
    spectral_popularity: float = 0.15
    """How much an item's number of edges lifts it in what is recommended."""
    seed: int = 0
    impute: bool = True
    """Items without an edge get a vector from their nearest items in the other modalities."""
    impute_neighbors: int = 10

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.compare == "dot" and self.dim < 2:
            raise ValueError(f"dim must be at least 2 to compare by dot, got {self.dim}")
        if self.spectral_dim < 2:
            raise ValueError(f"spectral_dim must be at least 2, got {self.spectral_dim}")
        if not 0 <= self.spectral_share < 1:
            raise ValueError(
                f"spectral_share lies in [0, 1), got {self.spectral_share}; for spectral vectors "
                f"alone choose the encoder 'spectral'"
            )
        for name in ("friend_weight", "item_edge_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for behavior, weight in (self.behavior_weights or {}).items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"behavior_weights[{behavior!r}] must be 0 or more, got {weight}")
        for name, allowed in (
            ("compare", ("cosine", "dot")),
            ("loss", ("bpr", "softmax")),
            ("mixing", ("strongest", "given", "learned")),
        ):
            if getattr(self, name) not in allowed:
                seen = getattr(self, name)
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {seen!r}")
        for name in ("degree_exponents", "spectral_exponents"):
            given = getattr(self, name)
            if len(given) != 2 or not all(-1 <= exponent <= 1 for exponent in given):
                raise ValueError(f"{name} must be two numbers from -1 to 1, got {given}")
        if not -1 <= self.spectral_popularity <= 1:
            raise ValueError(
                f"spectral_popularity lies between -1 and 1, got {self.spectral_popularity}"
            )
        if self.own_share is not None and not 0 <= self.own_share <= 1:
            raise ValueError(f"own_share lies between 0 and 1, got {self.own_share}")
