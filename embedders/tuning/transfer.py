"""Two sets of vectors of the same items in, how far the second's neighbors are from the first's.

PTMRec's in-batch knowledge transfer (arXiv 2502.15542): what a recommender learned of items pulls
what an encoder shows of them. The paper's equations are not public. Ours:

    P_ij = softmax_j(cos(e_i, e_j) / T)    Q_ij = softmax_j(cos(m_i, m_j) / T)    j other than i
    loss = mean_i KL(P_i || Q_i)

Cosines, for the length of an id's vector says how often it was chosen, and would let a few popular
items be everybody's neighbor; one temperature then suits both. An item is not its own neighbor:
its cosine is 1 in both, takes most of the weight at small temperatures, and has nothing to tell.

Shape legend: K items of a batch, H dimensions.
"""

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from embedders.graph_smoothing import unit

FEWEST = 3  # items: of two, each has the other as its only neighbor


def transfer_loss(known_KH: Tensor, shown_KH: Tensor, *, temperature: float) -> Tensor:
    """mean_i KL(P_i || Q_i), P from `known_KH`, Q from `shown_KH`; 0 for fewer than three items.

    No gradient reaches `known_KH`.
    """
    if len(known_KH) < FEWEST:
        return shown_KH.sum() * 0
    target_KK = _neighbors(known_KH.detach(), temperature)
    return kl_div(
        _neighbors(shown_KH, temperature), target_KK, reduction="batchmean", log_target=True
    )


def _neighbors(vectors_KH: Tensor, temperature: float) -> Tensor:
    """log softmax over the others, [K, K - 1]: each row without its own column."""
    unit_KH = unit(vectors_KH)
    similar_KK = unit_KH @ unit_KH.T / temperature
    is_other_KK = ~torch.eye(len(vectors_KH), dtype=torch.bool)
    return torch.log_softmax(similar_KK[is_other_KK].view(len(vectors_KH), -1), dim=1)
