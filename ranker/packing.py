"""One prefix and many branches in, one yes/no logit for each branch out, in one pass.

The prefix is computed once. The branches follow it in one ragged sequence, each attending to the
prefix and to itself, each counting its positions on from the prefix's end. So a branch's logit is
what scoring it alone would give, to rounding: `score_one_by_one` is that reference, over Hugging
Face's own attention.

Shape legend: P prefix tokens, B branches, S a branch's tokens, H the LLM's width.
"""

from collections.abc import Iterator, Sequence

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import DynamicCache, PreTrainedModel  # noqa: E402

from ranker import attention  # noqa: E402
from ranker.attention import Packing  # noqa: E402

TOKEN_BUDGET = 2048  # branch tokens in one pass: larger ones cost memory and gain nothing


class AnswerHead:
    """Reads logit(yes) - logit(no) from the last hidden state, in float32."""

    def __init__(self, llm: PreTrainedModel, *, yes: int, no: int) -> None:
        """Only these two rows of the output embeddings are ever computed."""
        output = llm.get_output_embeddings()
        self._rows_2H = output.weight.detach()[[yes, no]].float()
        bias = getattr(output, "bias", None)
        self._bias_2 = None if bias is None else bias.detach()[[yes, no]].float()
        self._cap = getattr(llm.config, "final_logit_softcapping", None)

    def __call__(self, hidden_BH: Tensor) -> Tensor:
        """[B, H] -> [B]."""
        logits_B2 = torch.nn.functional.linear(hidden_BH.float(), self._rows_2H, self._bias_2)
        if self._cap is not None:
            logits_B2 = torch.tanh(logits_B2 / self._cap) * self._cap
        return logits_B2[..., 0] - logits_B2[..., 1]


def score_packed(
    llm: PreTrainedModel,
    prefix_PH: Tensor,
    branches: Sequence[Tensor],
    head: AnswerHead,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> Tensor:
    """Score every branch behind the one prefix.

    Args:
        llm: Its attention is switched to the packed one, and stays so.
        prefix_PH: The embedded prefix.
        branches: Each [S, H], embedded; any lengths.
        head: How the answer is read.
        token_budget: At most so many branch tokens a pass; more branches take more passes over
            the prefix's cached keys and values.

    Returns:
        [B], float32.

    Raises:
        NotImplementedError: a layer with a window shorter than the sequence, a soft cap, or no
            attention at all.
    """
    decoder = _decoder(llm, attention.NAME)
    num_prefix = len(prefix_PH)
    if not branches:
        return torch.zeros(0)
    chunks = list(_chunks(branches, token_budget))
    if len(chunks) == 1:
        return head(_packed_pass(decoder, prefix_PH, chunks[0], num_prefix, None))
    cache = DynamicCache()  # whole in every layer: one cut to a window could not be cropped
    decoder(
        inputs_embeds=prefix_PH[None],
        position_ids=torch.arange(num_prefix, device=prefix_PH.device)[None],
        past_key_values=cache,
        use_cache=True,
    )
    scores = []
    for chunk in chunks:
        scores.append(head(_packed_pass(decoder, None, chunk, num_prefix, cache)))
        cache.crop(-sum(len(branch) for branch in chunk))
    return torch.cat(scores)


def score_one_by_one(
    llm: PreTrainedModel, prefix_PH: Tensor, branches: Sequence[Tensor], head: AnswerHead
) -> Tensor:
    """The same scores, each from a whole prompt of its own: what packing must equal, [B]."""
    decoder = _decoder(llm, "eager")
    scores = []
    for branch_SH in branches:
        whole_1TH = torch.cat([prefix_PH, branch_SH])[None]
        mask_1T = torch.ones(whole_1TH.shape[:2], dtype=torch.long, device=whole_1TH.device)
        hidden = decoder(inputs_embeds=whole_1TH, attention_mask=mask_1T, use_cache=False)
        scores.append(head(hidden.last_hidden_state[:, -1]))
    return torch.cat(scores)


def _packed_pass(
    decoder: torch.nn.Module,
    prefix_PH: Tensor | None,
    branches: Sequence[Tensor],
    num_prefix: int,
    cache: DynamicCache | None,
) -> Tensor:
    """The hidden state at each branch's last token, [B, H]."""
    device = branches[0].device
    lengths_B = torch.tensor([len(branch) for branch in branches], device=device)
    ends_B = lengths_B.cumsum(0)
    steps_S = torch.arange(int(lengths_B.max()), device=device)
    is_token_BS = steps_S < lengths_B[:, None]
    places_BS = (ends_B - lengths_B)[:, None] + torch.minimum(steps_S, lengths_B[:, None] - 1)
    positions = num_prefix + steps_S.expand(len(branches), -1)[is_token_BS]
    inputs = torch.cat(list(branches))
    if prefix_PH is not None:
        inputs = torch.cat([prefix_PH, inputs])
        positions = torch.cat([torch.arange(num_prefix, device=device), positions])
    hidden_1TH = decoder(
        inputs_embeds=inputs[None],
        position_ids=positions[None],
        past_key_values=cache,
        use_cache=cache is not None,
        packing=Packing(num_prefix=num_prefix, places_BS=places_BS, is_token_BS=is_token_BS),
    ).last_hidden_state
    first = num_prefix if prefix_PH is not None else 0
    answers_BH: Tensor = hidden_1TH[0, first + ends_B - 1]
    return answers_BH


def _chunks(branches: Sequence[Tensor], token_budget: int) -> Iterator[list[Tensor]]:
    chunk: list[Tensor] = []
    used = 0
    for branch in branches:
        if chunk and used + len(branch) > token_budget:
            yield chunk
            chunk, used = [], 0
        chunk.append(branch)
        used += len(branch)
    if chunk:
        yield chunk


def _decoder(llm: PreTrainedModel, implementation: str) -> torch.nn.Module:
    """The LLM without its head, attending as asked."""
    if llm.config._attn_implementation != implementation:
        attention.switch(llm, implementation)
    decoder: torch.nn.Module = llm.get_decoder()
    return decoder
