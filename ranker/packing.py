"""One prefix and many branches in, one yes/no logit for each branch out, in few passes.

The prefix is computed once, or comes from `ranker.prefixes` as an earlier request left it. The
branches follow it in one ragged sequence, each attending to the prefix and to itself, each counting
its positions on from the prefix's end. So a branch's logit is what scoring it alone would give, to
rounding: `score_one_by_one` is that reference, over Hugging Face's own attention.

Shape legend: P prefix tokens, B branches, S a branch's tokens, T tokens of all branches in a pass,
H the LLM's width.
"""

from collections.abc import Iterator, Sequence

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from ranker import attention, last_layer  # noqa: E402
from ranker.attention import Packing, Reading  # noqa: E402
from ranker.prefixes import Prefix  # noqa: E402

TOKEN_BUDGET = 1024  # branch tokens in one pass: larger ones cost memory and gain nothing
FIRST_BUDGET = 256  # where something shall be known early; a CPU hardly takes longer over all
STRETCHED = {"dynamic", "longrope"}  # rotary positions whose angles depend on the whole length


class AnswerHead:
    """Reads logit(yes) - logit(no) from the last hidden state, in float32."""

    def __init__(self, llm: PreTrainedModel, *, yes: int, no: int) -> None:
        """Only these two rows of the output embeddings are ever computed.

        Raises:
            NotImplementedError: the output embeddings are quantized.
        """
        output = llm.get_output_embeddings()
        if not output.weight.is_floating_point():
            raise NotImplementedError(
                f"{type(llm).__name__} has quantized output embeddings, whose rows cannot be read: "
                f"leave lm_head out of quantization"
            )
        self._rows_2H = output.weight.detach()[[yes, no]].float()
        bias = getattr(output, "bias", None)
        self._bias_2 = None if bias is None else bias.detach()[[yes, no]].float()
        self._cap = getattr(llm.config.get_text_config(), "final_logit_softcapping", None)

    def __call__(self, hidden_BH: Tensor) -> Tensor:
        """[B, H] -> [B]."""
        logits_B2 = torch.nn.functional.linear(hidden_BH.float(), self._rows_2H, self._bias_2)
        if self._cap is not None:
            logits_B2 = torch.tanh(logits_B2 / self._cap) * self._cap
        return logits_B2[..., 0] - logits_B2[..., 1]


def read(llm: PreTrainedModel, prefix_PH: Tensor) -> Prefix:
    """Compute a prefix: what `score_packed` needs of it, for this request and later ones.

    Args:
        llm: Its attention is switched to the packed one, and stays so.
        prefix_PH: The embedded prefix, on any device.

    Raises:
        ValueError: the prefix is empty.
        NotImplementedError: a layer does not attend, or asks for what is not computed.
    """
    decoder = _decoder(llm, attention.NAME)
    if not len(prefix_PH):
        raise ValueError("the prefix is empty: branches need at least one token to stand behind")
    reading = Reading()
    positions_P = torch.arange(len(prefix_PH), device=llm.device)
    _run(decoder, prefix_PH.to(llm.device), positions_P, reading)
    if len(reading.kept) != llm.config.get_text_config().num_hidden_layers:
        raise NotImplementedError(
            f"{type(llm).__name__} has layers without keys and values of their own, which packed "
            f"scoring cannot keep apart: use a model whose layers all attend"
        )
    kept = [reading.kept[layer] for layer in sorted(reading.kept)]
    return Prefix(
        keys=tuple(key.contiguous() for key, _ in kept),
        values=tuple(value.contiguous() for _, value in kept),
    )


def score_packed(
    llm: PreTrainedModel,
    prefix: Tensor | Prefix,
    branches: Sequence[Tensor],
    head: AnswerHead,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> Tensor:
    """Score every branch behind the one prefix.

    Args:
        llm: Its attention is switched to the packed one, and stays so.
        prefix: Embedded, [P, H], or as `read` gave it: the scores are the same, bit for bit.
        branches: Each [S, H], embedded; any lengths from 1.
        head: How the answer is read.
        token_budget: Of a pass, see `split`; more branches take more passes over the prefix's keys
            and values.

    Returns:
        [B], float32, on the branches' device.

    Raises:
        ValueError: the prefix or a branch is empty.
        NotImplementedError: a layer does not attend, or asks for what is not computed.
    """
    if not branches:
        return torch.zeros(0)
    if isinstance(prefix, Tensor):
        prefix = read(llm, prefix)
    passes = split([len(branch) for branch in branches], token_budget=token_budget)
    return torch.cat(list(score_passes(llm, prefix, branches, head, passes=passes)))


def score_passes(
    llm: PreTrainedModel,
    prefix: Prefix,
    branches: Sequence[Tensor],
    head: AnswerHead,
    *,
    passes: Sequence[slice],
) -> Iterator[Tensor]:
    """`score_packed` pass by pass: each is computed when it is asked for.

    Args:
        llm: As there.
        prefix: As there.
        branches: As there, at least one.
        head: As there.
        passes: Which branches each takes, as `split` gives them.

    Yields:
        The scores of a pass's branches, in order.
    """
    if not all(map(len, branches)):
        raise ValueError("a branch is empty: its answer is read at its last token")
    decoder = _decoder(llm, attention.NAME)
    _check_rotation(llm, prefix.num_tokens + max(map(len, branches)))
    for places in passes:
        hidden_BH = _packed_pass(decoder, prefix, branches[places], device=llm.device)
        yield head(hidden_BH).to(branches[0].device)


def split(
    lengths: Sequence[int], *, first: int | None = None, token_budget: int = TOKEN_BUDGET
) -> list[slice]:
    """Which branches share a pass: a function of their lengths alone, in their order.

    Args:
        lengths: Tokens of each branch.
        first: The first pass's budget, each next one's being twice as large until it is the
            whole one; None for the whole one from the beginning.
        token_budget: At most so many tokens a pass, but for a single longer branch, and for what
            would fill less than a quarter of a last pass: it joins the one before.
    """
    passes: list[slice] = []
    begin, used, budget = 0, 0, min(first or token_budget, token_budget)
    for place, length in enumerate(lengths):
        if used and used + length > budget:
            passes.append(slice(begin, place))
            begin, used, budget = place, 0, min(2 * budget, token_budget)
        used += length
    if passes and 4 * used < budget:
        begin = passes.pop().start
    return [*passes, slice(begin, len(lengths))] if lengths else []


def score_one_by_one(
    llm: PreTrainedModel, prefix_PH: Tensor, branches: Sequence[Tensor], head: AnswerHead
) -> Tensor:
    """The same scores, each from a whole prompt of its own: what packing must equal, [B]."""
    decoder = _decoder(llm, "eager")
    scores = []
    for branch_SH in branches:
        whole_1TH = torch.cat([prefix_PH, branch_SH])[None].to(llm.device)
        mask_1T = torch.ones(whole_1TH.shape[:2], dtype=torch.long, device=whole_1TH.device)
        hidden = decoder(inputs_embeds=whole_1TH, attention_mask=mask_1T, use_cache=False)
        scores.append(head(hidden.last_hidden_state[:, -1]))
    return torch.cat(scores).to(branches[0].device)


def _packed_pass(
    decoder: torch.nn.Module, prefix: Prefix, branches: Sequence[Tensor], *, device: torch.device
) -> Tensor:
    """The hidden state at each branch's last token, [B, H]."""
    lengths_B = torch.tensor([len(branch) for branch in branches], device=device)
    ends_B = lengths_B.cumsum(0)
    steps_S = torch.arange(max(map(len, branches)), device=device)
    is_token_BS = steps_S < lengths_B[:, None]
    packing = Packing(
        prefix=prefix,
        places_BS=(ends_B - lengths_B)[:, None] + torch.minimum(steps_S, lengths_B[:, None] - 1),
        is_token_BS=is_token_BS,
        steps_T=steps_S.expand(len(branches), -1)[is_token_BS],
    )
    hidden_TH = _run(
        decoder,
        torch.cat(list(branches)).to(device),
        prefix.num_tokens + packing.steps_T,
        packing,
    )
    if len(hidden_TH) == len(branches):  # the last layer let only the answers go on
        return hidden_TH
    return hidden_TH[ends_B - 1]


def _run(
    decoder: torch.nn.Module, inputs_TH: Tensor, positions_T: Tensor, packing: Packing | Reading
) -> Tensor:
    """The decoder's last hidden states, of those tokens that its last layer let go on."""
    hidden_1TH: Tensor = decoder(
        inputs_embeds=inputs_TH[None],
        position_ids=positions_T[None],
        use_cache=False,
        packing=packing,
    ).last_hidden_state
    return hidden_1TH[0]


def _check_rotation(llm: PreTrainedModel, longest: int) -> None:
    """Some models turn all positions differently once a prompt is long, also the prefix's."""
    config = llm.config.get_text_config()
    whole = getattr(config, "rope_parameters", None) or {}
    for rotation in (whole, *whole.values()):  # some have one for each kind of layer
        if not isinstance(rotation, dict) or rotation.get("rope_type") not in STRETCHED:
            continue
        limit = rotation.get("original_max_position_embeddings") or config.max_position_embeddings
        if longest > limit:
            raise NotImplementedError(
                f"{type(llm).__name__} turns its positions by the prompt's length beyond {limit} "
                f"tokens, and this one has {longest}: shorten the history"
            )


def _decoder(llm: PreTrainedModel, implementation: str) -> torch.nn.Module:
    """The LLM without its head, attending as asked."""
    if llm.config._attn_implementation != implementation:
        attention.switch(llm, implementation)
    decoder: torch.nn.Module = llm.get_decoder()
    last_layer.spare(decoder)
    return decoder
