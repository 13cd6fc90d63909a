"""A laid out batch and its hidden states in, how much the words that follow surprise the LLM out.

MLLM-MSR tunes by what a language model is trained with: -log P(v_i | v_<i) over the tokens of
prompt and answer (eq. 2; its code labels the prompt's tokens, too). Here that is `sequence`; with
`answer`, yes or no is the only word that is learned. Both are over the whole vocabulary, so that an
LLM also learns that yes and no are what is to be said; the retriever's prior has no part in it.

    answer     mean over the branches of -log P(yes) for the chosen one, -log P(no) for the others
    sequence   mean over all labels of -log P(label): the words of the prefix, of all branches, and
               the answers; behaviors, item and evidence tokens are no words, and are never labels

The paper has a sequence for each candidate, we have one prefix with many branches: its words count
once for all of them, and theirs once for each. The prompt's very first word has no label.

Shape legend: B examples, N branches of an example, T tokens, L labels, H the LLM's width, V words.
"""

from dataclasses import dataclass
from typing import Literal

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import cross_entropy, embedding, linear  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from ranker.layout import Layout  # noqa: E402
from ranker.prompts import STRIDE, WORD  # noqa: E402

Spoken = Literal["answer", "sequence"]
LOGITS = 1 << 24  # of words' logits at once: the rest are computed after them, and twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Which word is to follow where, and how much that counts."""

    rows_L: NDArray[np.int64]
    places_L: NDArray[np.int64]
    """Of the token in its row that the word is to follow."""
    words_L: NDArray[np.int64]
    shares_L: NDArray[np.float32]
    """1 in sum over each example."""


def labels(layout: Layout, kind: Spoken, *, yes: int, no: int) -> Labels:
    """The labels of a batch whose first branches are the chosen ones."""
    num_rows, num_branches = layout.ends_BN.shape
    truth_N = np.array([yes, *[no] * (num_branches - 1)])
    rows_BN = np.repeat(np.arange(num_rows)[:, None], num_branches, axis=1)
    told = np.stack([rows_BN, layout.ends_BN, np.broadcast_to(truth_N, rows_BN.shape)], axis=-1)
    found_L3 = told.reshape(-1, 3)
    if kind == "sequence":
        is_word_BT = (layout.codes_BT // STRIDE == WORD) & (layout.before_BT >= 0)
        rows_W, places_W = np.nonzero(is_word_BT)
        words_W3 = np.stack(
            [rows_W, layout.before_BT[is_word_BT], layout.codes_BT[rows_W, places_W]], axis=1
        )
        found_L3 = np.concatenate([words_W3, found_L3])
    # All branches begin alike, behind the same token: their labels there are one of more weight.
    distinct_L3, counts_L = np.unique(found_L3, axis=0, return_counts=True)
    rows_L, places_L, words_L = distinct_L3.T
    totals_B = np.bincount(rows_L, weights=counts_L, minlength=num_rows)
    return Labels(
        rows_L=rows_L,
        places_L=places_L,
        words_L=words_L,
        shares_L=(counts_L / totals_B[rows_L]).astype(np.float32),
    )


class WordHead:
    """Says how much each word surprises the LLM after each hidden state, few logits at a time."""

    def __init__(self, llm: PreTrainedModel, *, limit: int = LOGITS) -> None:
        """Its rows are the LLM's own, which are never trained.

        Args:
            llm: With output embeddings that are not quantized.
            limit: Of logits that are held at once, if not one label alone has more.
        """
        output = llm.get_output_embeddings()
        assert output.weight.is_floating_point()  # `AnswerHead` refuses others
        self._words_VH = output.weight.detach()
        bias = getattr(output, "bias", None)
        self._bias_V = None if bias is None else bias.detach()
        self._cap = getattr(llm.config.get_text_config(), "final_logit_softcapping", None)
        self._size = max(1, limit // len(self._words_VH))

    def __call__(self, hidden_LH: Tensor, words_L: Tensor) -> Tensor:
        """[L]: -log P(word), float32. On the way back each part's logits are computed again."""
        parts = zip(hidden_LH.split(self._size), words_L.split(self._size), strict=True)
        return torch.cat([self._part(*part) for part in parts])

    def _part(self, hidden_LH: Tensor, words_L: Tensor) -> Tensor:
        surprises: Tensor = checkpoint(
            self._surprises, hidden_LH, words_L, use_reentrant=False, preserve_rng_state=False
        )
        return surprises

    def _surprises(self, hidden_LH: Tensor, words_L: Tensor) -> Tensor:
        logits_LV = linear(hidden_LH.to(self._words_VH.dtype), self._words_VH, self._bias_V).float()
        if self._cap is not None:
            logits_LV = torch.tanh(logits_LV / self._cap) * self._cap
        return cross_entropy(logits_LV, words_L, reduction="none")


def surprise(hidden_BTH: Tensor, found: Labels, head: WordHead) -> Tensor:
    """The mean over the examples of what their labels surprise by, a scalar."""
    device = hidden_BTH.device
    rows_L, places_L, words_L, shares_L = (
        torch.from_numpy(one).to(device)
        for one in (found.rows_L, found.places_L, found.words_L, found.shares_L)
    )
    # By `embedding`: places repeat, and several threads add up an index's gradients in any order.
    told_L = rows_L * hidden_BTH.shape[1] + places_L
    surprises_L = head(embedding(told_L, hidden_BTH.flatten(0, 1)), words_L)
    return (surprises_L * shares_L).sum() / len(hidden_BTH)
