"""A served world and a request in, its one packed pass out: the scorer without any service.

The prompts are those that the service writes, token by token; so the two differ in what the
service does: messages, checks, queue and threads, retrieval's scores, prompts, the answer.
"""

from collections.abc import Sequence

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _service_world import ITEM_IDS, LlmServing, history  # noqa: E402
from torch import Tensor  # noqa: E402

from ranker.packing import AnswerHead, read, score_packed  # noqa: E402
from ranker.prompts import Codes  # noqa: E402


class Bare:
    """Embeds, reads the prefix, scores the branches; keeps nothing."""

    def __init__(self, serving: LlmServing) -> None:
        self._model = serving.model
        llm = serving.model.llm
        self._tokens_RH = torch.from_numpy(serving.tokens_ND).view(-1, llm.hidden_size)
        self._head = AnswerHead(serving.model.causal_lm, yes=llm.yes, no=llm.no)
        row_of = {item_id: row for row, item_id in enumerate(ITEM_IDS)}
        self.prompter = serving.model.prompter(row_of, serving.titles)

    def prompt(self, user_id: str, item_ids: Sequence[str]) -> list[Codes]:
        """The prefix, then a branch for each item."""
        branches = (self.prompter.branch(one, slot=slot) for slot, one in enumerate(item_ids))
        return [self.prompter.prefix(history(user_id)), *branches]

    @torch.inference_mode()
    def score(self, prompt: Sequence[Codes]) -> Tensor:
        """[B]: a logit for each branch."""
        model, (prefix, *branches) = self._model, prompt
        prefix_PH = model.embed(prefix, self._tokens_RH, torch.zeros(0))
        evidence_EH = torch.zeros(len(branches), model.llm.hidden_size)
        embedded_TH = model.embed(np.concatenate(branches), self._tokens_RH, evidence_EH)
        return score_packed(
            model.causal_lm,
            read(model.causal_lm, prefix_PH),
            embedded_TH.split([len(branch) for branch in branches]),
            self._head,
        )
