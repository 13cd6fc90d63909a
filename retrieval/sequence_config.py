"""How the sequence encoder reads, trains and encodes: plain values, which load no model library.

Every field is part of the revision of the trained space.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from embedders.items import Modality

POSITIVE = (
    "dim",
    "num_layers",
    "num_heads",
    "widening",
    "limit",
    "epochs",
    "batch_size",
    "learning_rate",
    "temperature",
    "num_negatives",
)
SHARES = ("dropout", "input_dropout", "id_dropout", "modality_dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceConfig:
    """How the sequence encoder is trained."""

    dim: int = 64
    """The network's width. The vectors have as many dimensions, and with compare = "dot" one more,
    which carries what an item's length lacks to the longest."""
    num_layers: int = 2
    num_heads: int = 2
    widening: int = 4
    """Of the pointwise network in each layer, in widths; 1 as in SASRec."""
    limit: int = 50
    """Only so many newest events of a history are read."""
    modalities: frozenset[Modality] | None = None
    """The content that items are made of; None takes every modality there is but the graph, whose
    vectors were trained on the very events that are to be predicted here."""
    use_ids: bool = True
    """Items that training saw get a vector of their own, added to their content's."""
    epochs: int = 20
    batch_size: int = 2048
    """Events in one step, padding counted."""
    learning_rate: float = 1e-3
    """At its height: it rises over the first twentieth of all steps, and falls as a cosine."""
    weight_decay: float = 0.0
    dropout: float = 0.2
    """Of the numbers that each layer adds."""
    input_dropout: float = 0.2
    """Of the numbers of the items' vectors, where a history is read."""
    id_dropout: float = 0.1
    """The share of a batch's items that go without their own vector, so that content alone learns
    to stand for an item."""
    modality_dropout: float = 0.1
    """The share of present modalities that are hidden, so that any subset is answered."""
    compare: Literal["cosine", "dot"] = "dot"
    """What training compares. cosine: as the index will search. dot: inner products, in which an
    item's length says how popular it is; one more dimension then makes cosines of the same
    order."""
    temperature: float = 0.07
    """Cosines are divided by it; inner products find their own scale."""
    loss: Literal["sampled", "full"] = "sampled"
    """full: the softmax over all items. sampled: over `num_negatives` drawn items that a batch
    shares, each score less the logarithm of how often it is expected among them (logQ)."""
    num_negatives: int = 2048
    """As many as there are items, or more, makes the loss full."""
    popularity_exponent: float = 0.5
    """Negatives are drawn by popularity to this power; 0 draws evenly."""
    behavior_weights: Mapping[str, float] = field(default_factory=dict)
    """What predicting an event of a behavior counts in the loss; 1 for one that is left out. One
    of weight 0 is read in histories and never predicted. The first event with an item counts as
    much as the strongest that the same user did with it before the cut."""
    predict_repeats: bool = False
    """Predict also what the history holds already. Retrieval hides it, as long as it is told to."""
    seed: int = 0

    @classmethod
    def quick(cls, *, seed: int = 0) -> "SequenceConfig":
        """A small network and few passes: tens of thousands of events in some seconds."""
        return cls(dim=32, num_layers=1, epochs=5, num_negatives=512, seed=seed)

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("weight_decay", "popularity_exponent"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads, got {self.dim} and {self.num_heads}"
            )
        for name, allowed in (("compare", ("cosine", "dot")), ("loss", ("sampled", "full"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}, got {getattr(self, name)!r}")
        for modality in self.modalities or ():
            if modality not in list(Modality):
                known = ", ".join(Modality)
                raise ValueError(f"no modality {str(modality)!r}; choose among {known}")
        for behavior, weight in self.behavior_weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"behavior_weights[{behavior!r}] must be 0 or more, got {weight}")
